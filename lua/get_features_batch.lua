--[[
Reads the features of many entities, typed by the schema. Keep a call to about 100 ids: a script holds Redis while it
runs, and several calls sent in one write are still one round trip.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each entity asked for

ARGV[1]  n         how many names follow
ARGV[2…] names     the n features wanted, or a layout, as get_features takes them; n = 0: all declared ones
then     ids       one for each hash, in the same order; duplicates are fine

Reply    one msgpack array aligned with the ids: nil for an unknown id, else an array as get_features has it.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(ids * names), with one SMISMEMBER for all ids. An unknown id costs no more than its share of that.
]]
-- @include parse
-- @include schema
-- @include row
local name_count, id_count = parse_count(ARGV[1], 5000), #KEYS - 2
if not name_count or id_count < 1 or id_count > 5000 or #ARGV ~= 1 + name_count + id_count then
  return redis.error_reply('BADARGS want keys members, schema, hash per id; then n, n names, an id per hash'
    .. ' (1 to 5000)')
end
local names, kinds, failure = read_schema(KEYS[2], { unpack(ARGV, 2, 1 + name_count) })
if failure then return failure end
local known = redis.pcall('SMISMEMBER', KEYS[1], unpack(ARGV, 2 + name_count))
if known.err then return known end
local parts, size, head = { array_head(id_count) }, 1, array_head(#names)
for position = 1, id_count do
  if known[position] == 1 then
    parts[size + 1] = head
    parts[size + 2] = pack_row(KEYS[2 + position], names, kinds)
    size = size + 2
  else
    size = size + 1
    parts[size] = '\192' -- msgpack's nil
  end
end
return table.concat(parts)
