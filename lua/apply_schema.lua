--[[
Declares features. Additive: what is declared already stays, new features go to the end of the declared order, and a
change of type is refused, since stored values would contradict it.

KEYS[1]  hash      the schema: one field a feature with its type; `@version`, a counter; `@features`, a JSON array of
                   name, type, name, type … in declared order; `@layout`, a digest of that array

ARGV[1…]           name, type, name, type …: type is float, int, bool or string

Reply    the schema's version: one more than before when a feature was added, else as it was.
Errors   BADARGS (also for a name or type that is not allowed), TYPECHANGE, and Redis's own. After an error nothing
         has been written.
Cost     O(features)
]]
-- @include parse
local MOST = 1000
local TYPES = { float = true, int = true, bool = true, string = true }
local schema = KEYS[1]
if #KEYS ~= 1 or #ARGV == 0 or #ARGV % 2 ~= 0 then
  return redis.error_reply('BADARGS want 1 key (schema), then name and type of each feature')
end
local stored = redis.pcall('HGETALL', schema)
if stored.err then return stored end
local declared, version, features = {}, 0, {}
for position = 1, #stored, 2 do
  local field, value = stored[position], stored[position + 1]
  if field == '@features' then features = cjson.decode(value)
  elseif field == '@version' then version = tonumber(value)
  elseif string.byte(field, 1) ~= 64 then declared[field] = value end
end
local fields = {}
for position = 1, #ARGV, 2 do
  local name, kind = ARGV[position], ARGV[position + 1]
  if #name > 128 or not string.find(name, '^[%a_][%w_.-]*$') then
    return redis.error_reply('BADARGS a feature name is a letter or _, then letters, digits, _ . - (at most 128): '
      .. shown(name))
  end
  if not TYPES[kind] then
    return redis.error_reply('BADARGS type of ' .. name .. ' must be float, int, bool or string')
  end
  if not declared[name] then
    declared[name] = kind
    fields[#fields + 1], fields[#fields + 2] = name, kind
    features[#features + 1], features[#features + 2] = name, kind
  elseif declared[name] ~= kind then
    return redis.error_reply('TYPECHANGE ' .. name .. ' is declared as ' .. declared[name] .. ' and cannot become '
      .. kind .. ': declare a feature of another name')
  end
end
if #features > 2 * MOST then
  return redis.error_reply('BADARGS a schema has at most ' .. MOST .. ' features')
end
if #fields > 0 then
  version = version + 1
  local order = cjson.encode(features)
  local layout = string.sub(redis.sha1hex(order), 1, 8)
  redis.call('HSET', schema, '@version', version, '@features', order, '@layout', layout, unpack(fields))
end
return version
