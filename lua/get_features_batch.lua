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
local wanted = { unpack(ARGV, 2, 1 + name_count) }
local layout, names, kinds = layout_named(wanted), nil, nil
if not layout then
  local failure
  names, kinds, failure = read_schema(KEYS[2], wanted)
  if failure then return failure end
end
local known = redis.pcall('SMISMEMBER', KEYS[1], unpack(ARGV, 2 + name_count))
if known.err then return known end
local parts, pcall = { array_head(id_count) }, redis.pcall
for position = 1, id_count do
  local row = '\192' -- msgpack's nil
  if known[position] == 1 then
    local key = KEYS[2 + position]
    row = layout and row_of_layout(pcall('HGET', key, '@row'), layout)
    if not row then
      if not names then
        local failure
        names, kinds, failure = read_schema(KEYS[2], wanted)
        if failure then return failure end
      end
      row = pack_values(cast_fields(key, names, kinds), #names)
    end
  end
  parts[position + 1] = row
end
return table.concat(parts)
