--[[
Builds the packed rows of entities that have none, or one of an older layout, out of their fields.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each entity

ARGV[1…] ids       one for each hash, in the same order

Reply    how many rows were built. An unknown id, and a key that is no hash, are passed over.
Errors   BADARGS, NOSCHEMA, and Redis's own (OOM, READONLY, WRONGTYPE for a members or schema key of another type).
Cost     O(ids * features); keep a call to about 100 ids.
]]
-- @include parse
-- @include schema
-- @include row
local id_count = #KEYS - 2
if id_count < 1 or id_count > 5000 or #ARGV ~= id_count then
  return redis.error_reply('BADARGS want keys members, schema, hash per id; then an id per hash (1 to 5000)')
end
local names, kinds, layout, failure = read_layout(KEYS[2])
if failure then return failure end
local known = redis.pcall('SMISMEMBER', KEYS[1], unpack(ARGV))
if known.err then return known end
local built = 0
for position = 1, id_count do
  local key = KEYS[2 + position]
  local stored = known[position] == 1 and redis.pcall('HGET', key, '@row')
  if known[position] == 1 and type(stored) ~= 'table' and not row_of_layout(stored, layout)
    and redis.call('EXISTS', key) == 1 then
    local reply = redis.pcall('HSET', key, '@row', layout .. pack_values(cast_fields(key, names, kinds), #names))
    if type(reply) == 'table' then return reply end
    built = built + 1
  end
end
return built
