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
local id_count, pcall = #KEYS - 2, redis.pcall
local digest, known
local answers, found, missed = {}, {}, {} -- by position: the reply, what `@row` holds; and where that is not enough
if ARGV[1] == '1' and id_count > 0 and id_count <= 5000 and #ARGV == 2 + id_count and #ARGV[2] == 9
  and string.byte(ARGV[2]) == 64 then
  -- The usual read ends here, before the functions for all others are even made; include/row.lua has the format.
  digest, known = string.sub(ARGV[2], 2), pcall('SMISMEMBER', KEYS[1], unpack(ARGV, 3))
  if known.err then return known end
  local keys, sub, start = KEYS, string.sub, nil
  for position = 1, id_count do
    local part = '\192' -- msgpack's nil
    if known[position] == 1 then
      local row = pcall('HGET', keys[2 + position], '@row')
      local head = type(row) == 'string' and sub(row, 1, 9) -- the layout's digest, and the head of the values' array
      if head and not start and sub(head, 1, 8) == digest and string.byte(head, 9) >= 144 then start = head end
      if head and head == start then part = sub(row, 9)
      else part, found[position], missed[#missed + 1] = false, row, position end
    end
    answers[position] = part
  end
  if #missed == 0 then
    local high, low = math.floor(id_count / 256), id_count % 256
    return (id_count < 16 and string.char(144 + id_count) or string.char(220, high, low)) .. table.concat(answers)
  end
end
-- @include clock
-- @include parse
-- @include window
-- @include schema
-- @include row
-- @include answer
local selection, failure
if not known then
  local name_count = parse_count(ARGV[1], 5000)
  if not name_count or id_count < 1 or id_count > 5000 or #ARGV ~= 1 + name_count + id_count then
    return redis.error_reply('BADARGS want keys members, schema, hash per id; then n, n names, an id per hash'
      .. ' (1 to 5000)')
  end
  selection, failure = read_schema(KEYS[2], { unpack(ARGV, 2, 1 + name_count) })
  if failure then return failure end
  known = pcall('SMISMEMBER', KEYS[1], unpack(ARGV, 2 + name_count))
  if known.err then return known end
  for position = 1, id_count do
    answers[position] = '\192'
    if known[position] == 1 then missed[#missed + 1] = position end
  end
end
for _, position in ipairs(missed) do
  local row = digest and row_of_layout(found[position], digest)
  if not row and not selection then
    selection, failure = read_schema(KEYS[2], { ARGV[2] })
    if failure then return failure end
  end
  answers[position] = row or answer_of(KEYS[2 + position], selection) or '\192'
end
return array_head(id_count) .. table.concat(answers)
