--[[
Builds the packed rows of entities that have none, or one of an older layout or past its time, out of their fields.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each entity, whose key carries its id

ARGV[1…] ids       one for each hash, in the same order

Reply    how many rows were built. An unknown id, and a key that is no hash, are passed over.
Errors   BADARGS, NOSCHEMA, and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE for a members or schema key of another
         type).
Cost     O(ids * features); keep a call to about 100 ids.
]]
local function repack_rows(KEYS, ARGV)
  -- @include entity
  -- @include read_state
  -- @include own_schema
  -- @include write_permissions
  -- @include row
  -- @include store_entity
  local id_count = #KEYS - 2
  if id_count < 1 or id_count > 5000 or #ARGV ~= id_count then
    -- @include usage
    return usage('keys members, schema, hash per id (1 to 5000); then an id per hash', KEYS, ARGV,
      id_count > 0 and id_count)
  end
  local declared, failure = own_schema(KEYS, ARGV, id_count)
  if failure then return failure end
  local known = redis.pcall('SMISMEMBER', KEYS[1], unpack(ARGV))
  if known.err then return known end
  failure = forbidden_write(KEYS, KEYS[3], declared)
  if failure then return failure end
  local built = 0
  for position = 1, id_count do
    local key = KEYS[2 + position]
    local stored = known[position] == 1 and read_state(key)
    if stored and not stored.err and not row_of_layout(stored[2], declared.layout)
      and redis.call('EXISTS', key) == 1 then
      local entity = load_entity(key, declared, stored)
      local reply = store_entity(key, entity, declared, {})
      if reply then return reply end
      built = built + 1
    end
  end
  return built
end
