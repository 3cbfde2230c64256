local NOSCHEMA = 'NOSCHEMA no schema is stored: run featurestore apply'

-- What a caller's names stand for: the names themselves; with none, every declared feature in declared order; with the
-- one word '@' .. layout, the same, as long as that is the layout still. Returns names, kinds (kinds[i] is the type of
-- names[i]), or nil, nil, error reply.
local function read_schema(key, names)
  if #names == 0 or (#names == 1 and byte(names[1], 1) == 64) then
    local stored = redis.pcall('HMGET', key, '@features', '@layout')
    if stored.err then return nil, nil, stored end
    if not stored[1] then return nil, nil, redis.error_reply(NOSCHEMA) end
    if names[1] and string.sub(names[1], 2) ~= stored[2] then
      return nil, nil, redis.error_reply('SCHEMA_CHANGED the schema has another layout now: read it again')
    end
    local declared, kinds = cjson.decode(stored[1]), {}
    names = {}
    for position = 1, #declared, 2 do
      names[#names + 1] = declared[position]
      kinds[#kinds + 1] = declared[position + 1]
    end
    return names, kinds
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
