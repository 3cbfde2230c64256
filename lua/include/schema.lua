local NOSCHEMA = 'NOSCHEMA no schema is stored: run featurestore apply'

-- The declared types of the features that a caller names: kinds[i] belongs to names[i]. With no names, every declared
-- feature in declared order. Returns names, kinds or nil, nil, error reply.
local function read_schema(key, names)
  local kinds = {}
  if #names == 0 then
    local declared = redis.pcall('HGET', key, '@features')
    if type(declared) == 'table' then return nil, nil, declared end
    if not declared then return nil, nil, redis.error_reply(NOSCHEMA) end
    declared = cjson.decode(declared)
    for position = 1, #declared, 2 do
      names[#names + 1] = declared[position]
      kinds[#kinds + 1] = declared[position + 1]
    end
    return names, kinds
  end
  kinds = redis.pcall('HMGET', key, unpack(names))
  if kinds.err then return nil, nil, kinds end
  for position = 1, #names do
    if not kinds[position] or string.byte(names[position], 1) == 64 then
      if redis.call('EXISTS', key) == 0 then
        return nil, nil, redis.error_reply(NOSCHEMA)
      end
      return nil, nil, redis.error_reply('UNDECLARED feature ' .. shown(names[position]) .. ' is not declared in the schema')
    end
  end
  return names, kinds
end
