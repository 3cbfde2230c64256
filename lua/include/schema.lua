local NOSCHEMA = 'NOSCHEMA no schema is stored: run featurestore apply'

-- Every declared feature in declared order: names, kinds (kinds[i] is the type of names[i]) and the layout's digest; or
-- nil, nil, nil, error reply.
local function read_layout(key)
  local stored = redis.pcall('HMGET', key, '@features', '@layout')
  if stored.err then return nil, nil, nil, stored end
  if not stored[1] or not stored[2] then return nil, nil, nil, redis.error_reply(NOSCHEMA) end
  local declared, names, kinds = cjson.decode(stored[1]), {}, {}
  for position = 1, #declared, 2 do
    names[#names + 1] = declared[position]
    kinds[#kinds + 1] = declared[position + 1]
  end
  return names, kinds, stored[2]
end

-- The layout that a caller names by the one word '@' .. layout, or nil.
local function layout_named(names)
  if #names == 1 and byte(names[1], 1) == 64 then return string.sub(names[1], 2) end
  return nil
end

-- What a caller's names stand for: the names themselves; with none, every declared feature; with a layout, the same, as
-- long as that is the layout still. Returns names, kinds, or nil, nil, error reply.
local function read_schema(key, names)
  local layout = layout_named(names)
  if #names == 0 or layout then
    local declared, kinds, current, failure = read_layout(key)
    if layout and current and layout ~= current then
      failure = redis.error_reply('SCHEMA_CHANGED the schema has another layout now: read it again')
    end
    if failure then return nil, nil, failure end
    return declared, kinds
  end
  local kinds = redis.pcall('HMGET', key, unpack(names))
  if kinds.err then return nil, nil, kinds end
  for position = 1, #names do
    if not kinds[position] or byte(names[position], 1) == 64 then
      if redis.call('EXISTS', key) == 0 then return nil, nil, redis.error_reply(NOSCHEMA) end
      return nil, nil, redis.error_reply('UNDECLARED ' .. shown(names[position]) .. ' is not declared in the schema')
    end
  end
  return names, kinds
end
