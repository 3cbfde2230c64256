--[[
Adds to numeric features of one entity, so that counters need no read before the write. All of them or none.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3]  hash      the entity's features; its key carries the id

ARGV[1]  id        the entity's id
ARGV[2]  time      event time in ms since 1970 or ISO 8601; empty: now, by Redis's clock. An increment counts whatever
                   its time; each feature's event time becomes the newer one
ARGV[3…] amounts   name, amount, name, amount …: features of type float or int, amounts as text of that type. A feature
                   that is missing counts from its default, or from 0

Reply    a msgpack array with the new value of each; nil, and nothing is written, when the entity was deleted at
         or after that time, or would have expired since.
Errors   BADARGS, BADID, BADTIME, BADTYPE (also for a result beyond 2^53 or beyond a float), NOSCHEMA, UNDECLARED, and
         Redis's own (NOPERM, OOM, READONLY, WRONGTYPE). After an error nothing has been written.
Cost     O(features)
]]
local function increment_features(KEYS, ARGV)
  -- @include add_amounts
  -- @include call_time
  -- @include clock
  -- @include entity
  -- @include read_state
  -- @include id_error
  -- @include own_schema
  -- @include write_permissions
  -- @include store_entity
  -- @include values
  local id, time = ARGV[1], ARGV[2]
  if #KEYS ~= 3 or #ARGV < 4 or #ARGV % 2 ~= 0 or #ARGV > 2002 then
    -- @include usage
    return usage('keys members, schema, hash; then id, time, and a name and an amount of each (1 to 1000)', KEYS, ARGV)
  end
  if id_error(id) then return redis.error_reply('BADID ' .. id_error(id)) end
  local declared, failure = own_schema(KEYS, ARGV, 1)
  if failure then return failure end
  time, failure = read_call_time(time, now() + declared.max_ahead)
  if failure then return failure end
  time = time or now()
  local members = redis.pcall('SCARD', KEYS[1])
  if type(members) == 'table' then return members end
  local entity
  entity, failure = load_entity(KEYS[3], declared, read_state(KEYS[3]))
  if failure then return failure end
  if entity.floor and entity.floor >= time then return false end
  local words, results, kinds = add_amounts(entity, declared, ARGV, 2, time)
  if not words then return redis.error_reply(results .. ' ' .. kinds) end
  if declared.ttl > 0 and entity.base + declared.ttl < now() then return false end
  failure = forbidden_write(KEYS, KEYS[3], declared) or store_entity(KEYS[3], entity, declared, words)
  if failure then return failure end
  redis.call('SADD', KEYS[1], id)
  return pack_values(results, { kinds = kinds, wide = true })
end
