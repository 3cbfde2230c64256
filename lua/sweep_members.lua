--[[
Takes entities that have no hash out of the set of known ids: they have expired, or Redis has evicted them.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each entity, whose key carries its id

ARGV[1…] ids       one for each hash, in the same order

Reply    how many ids were taken out: those whose key holds nothing any more.
Errors   BADARGS, NOSCHEMA, and Redis's own (NOPERM, READONLY, WRONGTYPE for a key of another type). After an error
         nothing has been taken out.
Cost     O(ids); keep a call to some hundred ids.
]]
local function sweep_members(KEYS, ARGV)
  -- @include foreign_key
  -- @include foreign_members
  -- @include usage
  local id_count = #KEYS - 2
  if id_count < 1 or id_count > 5000 or #ARGV ~= id_count then
    return usage('keys members, schema, hash per id (1 to 5000); then an id per hash', KEYS, ARGV,
      id_count > 0 and id_count)
  end
  local failure = foreign_key(KEYS, ARGV, 0, id_count)
  if failure then return failure end
  local schema = redis.pcall('HMGET', KEYS[2], '@layout', '@members_key')
  if schema.err then return schema end
  if not schema[1] then
    -- @include no_schema
    return no_schema(KEYS[2])
  end
  failure = foreign_members(KEYS, schema[2])
  if failure then return failure end
  local gone = {}
  for position = 1, id_count do
    if redis.call('EXISTS', KEYS[2 + position]) == 0 then gone[#gone + 1] = ARGV[position] end
  end
  if #gone == 0 then return 0 end
  return redis.pcall('SREM', KEYS[1], unpack(gone))
end
