-- @include text
-- Set the digest of what a service lists, names and kinds: replies of reads by the service start with it. There is none
-- where it lists features of other entities. Return what is wrong with a feature in the list, or nil.
local function set_digest(schema, name, value)
  local words, is_own = {}, true
  for _, feature in ipairs(value ~= '' and cjson.decode(value) or {}) do
    local kind = schema.declared[feature]
    if not kind and not string.find(feature, ':', 1, true) then
      return 'UNDECLARED ' .. shown(feature) .. ' of service ' .. shown(name) .. ' is not declared in the schema'
    end
    is_own = is_own and kind
    words[#words + 1], words[#words + 2] = feature, kind or ''
  end
  local is_read = is_own and #words > 0
  schema.plain['@digest:' .. name] = is_read and '@' .. string.sub(redis.sha1hex(cjson.encode(words)), 1, 7) or ''
  return nil
end
