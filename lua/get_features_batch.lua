--[[
Reads the features of many entities, typed by the schema. Keep a call to about 100 ids: a script holds Redis while it
runs, and several calls sent in one write are still one round trip.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each entity asked for

ARGV[1]  n         how many names and options follow
ARGV[2…] names     the n features wanted, with options, or a layout, as get_features takes them; n = 0: all of the row
then     ids       one for each hash, in the same order; duplicates are fine

Reply    one msgpack array aligned with the ids: nil for an unknown or expired id, else an array as get_features has it.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(ids * names), with one SMISMEMBER for all ids. An unknown id costs no more than its share of that.
]]
-- @include clock
-- @include parse
-- @include window
-- @include schema
-- @include row
-- @include answer
local name_count, id_count = parse_count(ARGV[1], 5000), #KEYS - 2
if not name_count or id_count < 1 or id_count > 5000 or #ARGV ~= 1 + name_count + id_count then
  return redis.error_reply('BADARGS want keys members, schema, hash per id; then n, n names, an id per hash'
    .. ' (1 to 5000)')
end
local wanted = { unpack(ARGV, 2, 1 + name_count) }
local layout = name_count == 1 and layout_named(wanted, 1)
local selection, failure
if not layout then selection, failure = read_schema(KEYS[2], wanted) end
if failure then return failure end
local known = redis.pcall('SMISMEMBER', KEYS[1], unpack(ARGV, 2 + name_count))
if known.err then return known end
local parts, pcall = { array_head(id_count) }, redis.pcall
for position = 1, id_count do
  local row
  if known[position] == 1 then
    local key = KEYS[2 + position]
    row = layout and row_of_layout(pcall('HGET', key, '@row'), layout)
    if not row then
      if not selection then
        selection, failure = read_schema(KEYS[2], wanted)
        if failure then return failure end
      end
      row = answer_of(key, selection, parts)
    end
  end
  parts[#parts + 1] = row or '\192' -- msgpack's nil
end
-- table.concat copies again and again what is longer than its buffer of 8 KiB, `..` does not.
local eighth, texts = math.ceil(#parts / 8), {}
for number = 1, 8 do
  texts[number] = table.concat(parts, '', (number - 1) * eighth + 1, math.min(number * eighth, #parts))
end
return texts[1] .. texts[2] .. texts[3] .. texts[4] .. texts[5] .. texts[6] .. texts[7] .. texts[8]
