--[[
Copies an entity's schema, as a whole, to where a cluster keeps it once more, unless what is there is as new. A schema
is changed in one place, by apply_schema and its like; each partition has a copy, since a call can only have keys of one
hash slot.

KEYS[1]  schema    a hash: the copy
KEYS[2]  schemas   optional: a set: the keys of all schemas, which the first one is added to

ARGV[1…] words     field, value, field, value …: what HGETALL answers for the schema that is copied. `@members_key`,
                   which differs from partition to partition, is made here

Reply    the version that the copy has now: that of the words, or a newer one that was there.
Errors   BADARGS (also where the words are no schema of a cluster, where the entity is being dropped, and where it has
         another number of partitions), and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE). After an error nothing has
         been written.
Cost     O(features)
]]
local function copy_schema(KEYS, ARGV)
  -- @include members_named
  -- @include permissions
  -- @include text
  -- @include usage
  -- @include wrong_schema_key
  if #KEYS < 1 or #KEYS > 2 or #ARGV == 0 or #ARGV % 2 ~= 0 then
    return usage('1 key (schema) or 2 (and the set of all), then field and value of each field of a schema', KEYS, ARGV)
  end
  local failure = wrong_schema_key(KEYS[1])
  if failure then return failure end
  if KEYS[2] and not string.find(KEYS[2], 'featurestore:schemas$') then
    return redis.error_reply('BADARGS the set of all schemas is featurestore:schemas, not ' .. shown(KEYS[2]))
  end
  local wanted, fields, removed = {}, {}, {}
  for position = 1, #ARGV, 2 do wanted[ARGV[position]] = ARGV[position + 1] end
  local version = tonumber(wanted['@version'])
  if not version or not wanted['@layout'] or not wanted['@partitions'] then
    return redis.error_reply('BADARGS this is no schema of a cluster: it wants @version, @layout and @partitions')
  end
  local stored = redis.pcall('HGETALL', KEYS[1])
  if stored.err then return stored end
  local before = {}
  for position = 1, #stored, 2 do before[stored[position]] = stored[position + 1] end
  if before['@dropping'] then
    return redis.error_reply('BADARGS the entity of ' .. shown(KEYS[1]) .. ' is being dropped: featurestore drop-entity'
      .. ' goes on with that, and then it can be declared again')
  elseif before['@partitions'] and before['@partitions'] ~= wanted['@partitions'] then
    return redis.error_reply('BADARGS the entity of ' .. shown(KEYS[1]) .. ' has ' .. before['@partitions']
      .. ' partitions, not ' .. shown(wanted['@partitions']))
  end
  for _, command in ipairs({ 'HSET', 'HDEL' }) do
    failure = refusal(KEYS[1], command, KEYS[1], '@', command == 'HSET' and '' or '@')
    if failure then return failure end
  end
  if KEYS[2] then
    local added = redis.pcall('SADD', KEYS[2], KEYS[1])
    if type(added) == 'table' then return added end
  end
  local held = tonumber(before['@version'] or 0)
  if held >= version then return held end

  wanted['@members_key'] = members_named(KEYS[1], wanted['@members'] or '')
  for field, value in pairs(wanted) do
    if before[field] ~= value then fields[#fields + 1], fields[#fields + 2] = field, value end
  end
  for field in pairs(before) do
    if not wanted[field] then removed[#removed + 1] = field end
  end
  -- The first write is refused where none is taken. Once it was taken, full memory keeps nothing out.
  for first = 1, #fields, 4000 do
    local reply = redis.pcall('HSET', KEYS[1], unpack(fields, first, math.min(first + 3999, #fields)))
    if type(reply) == 'table' then return reply end
  end
  for first = 1, #removed, 4000 do
    redis.call('HDEL', KEYS[1], unpack(removed, first, math.min(first + 3999, #removed)))
  end
  return version
end
