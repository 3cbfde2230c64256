--[[
Takes out of hashes what retire_features and drop_entity have left there: of an entity that is being dropped the whole
hash; else the fields of the features that are being retired, and their times. A packed row of another layout than the
schema's is built again, since it would come back to life with the layout. Where nothing is being retired or dropped
nothing is changed.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each entity, whose key carries its id. Whether the id is known does not matter

ARGV[1…] ids       one for each hash, in the same order

Reply    how many hashes were changed or removed. A key that holds no hash is passed over.
Errors   BADARGS, NOSCHEMA, and Redis's own (NOPERM, READONLY, WRONGTYPE for a schema key of another type). After an
         error nothing has been written.
Cost     O(ids * features); keep a call to about 100 ids.
]]
local function clear_hashes(KEYS, ARGV)
  -- @include clock
  -- @include entity
  -- @include foreign_key
  -- @include own_schema
  -- @include permissions
  -- @include read_state
  -- @include retiring
  -- @include row_format
  -- @include store_entity
  -- @include strings
  -- @include write_permissions
  local id_count = #KEYS - 2
  if id_count < 1 or id_count > 5000 or #ARGV ~= id_count then
    -- @include usage
    return usage('keys members, schema, hash per id (1 to 5000); then an id per hash', KEYS, ARGV,
      id_count > 0 and id_count)
  end
  local state = redis.pcall('HMGET', KEYS[2], '@retiring', '@dropping')
  if state.err then return state end
  local changed = 0

  if state[2] then
    local failure = foreign_key(KEYS, ARGV, 0, id_count) or refusal(KEYS[2], 'UNLINK', KEYS[3])
    if failure then return failure end
    for position = 1, id_count do
      local key = KEYS[2 + position]
      if not read_state(key).err then
        local removed = redis.pcall('UNLINK', key)
        if type(removed) == 'table' then return removed end
        changed = changed + removed
      end
    end
    return changed
  end

  local declared, failure = own_schema(KEYS, ARGV, id_count)
  if failure then return failure end
  if not state[1] then return 0 end
  -- HDEL first: on Redis 6.2 it is called, and where memory is full, HSET can be tried only after that.
  failure = refusal(KEYS[2], 'HDEL', KEYS[3], '@') or forbidden_write(KEYS, KEYS[3], declared, true)
  if failure then return failure end
  now() -- rows are made by the clock: a user who may not ask for the time is told so before anything is written
  local _, names = read_retiring(state[1])
  for position = 1, id_count do
    local key = KEYS[2 + position]
    local stored = read_state(key)
    if not stored.err then
      -- Fields go first: where memory is full, a script that has written may go on.
      local removed, row = redis.pcall('HDEL', key, unpack(names)), stored[2]
      if type(removed) == 'table' then return removed end
      local is_old = row and row ~= DELETED and sub(row, 1, LAYOUT_BYTES) ~= declared.layout
      if is_old then store_entity(key, load_entity(key, declared, stored), declared, {}) end
      if is_old or removed > 0 then changed = changed + 1 end
    end
  end
  return changed
end
