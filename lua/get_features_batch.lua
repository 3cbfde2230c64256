--[[
Reads the features of many entities, typed by the schema. Keep a call to about 100 ids: a script holds Redis while it
runs, and several calls sent in one write are still one round trip.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each entity asked for

ARGV[1]  n         how many names and options follow
ARGV[2…] names     the n features wanted, with options, or a layout, as get_features takes them; n = 0: all of the row
then     ids       one for each hash, in the same order; duplicates are fine

Reply    one msgpack array aligned with the ids: nil for an id that get_features answers nil to, else such an array.
         By layout, with no option but ?current in front, an array of strings aligned with the ids: nil, or the layout's
         8 bytes and that array.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(ids * names), with one SMISMEMBER for all ids. An unknown id costs no more than its share of that; where all
         are unknown, one EXISTS of the schema.
]]
local id_count, pcall, before_ids = #KEYS - 2, redis.pcall, 2
local digest, rows, missed
if ARGV[1] == '2' and ARGV[2] == '?current' and string.byte(ARGV[3] or '', 1) == 64 then
  local current = pcall('HGET', KEYS[2], '@layout')
  if type(current) == 'string' and ARGV[3] ~= '@' .. current then
    return redis.error_reply('SCHEMA_CHANGED the schema has another layout now: read it again')
  end
  before_ids = 3
end
local named = ARGV[before_ids]
if (ARGV[1] == '1' or before_ids == 3) and id_count > 0 and id_count <= 5000 and #ARGV == before_ids + id_count
  and #named == 9 and string.byte(named) == 64 then
  -- The usual read ends here, before the functions for all others are even made, and hands on what is stored: in Lua it
  -- is the strings that are made that cost. include/row.lua has the format.
  digest, rows = string.sub(named, 2), pcall('SMISMEMBER', KEYS[1], unpack(ARGV, before_ids + 1))
  if rows.err then return rows end
  local keys, sub, start = KEYS, string.sub, nil
  for position = 1, id_count do
    local row = false
    if rows[position] == 1 then
      row = pcall('HGET', keys[2 + position], '@row')
      local head = type(row) == 'string' and sub(row, 1, 9) -- the layout's digest, and the head of the values' array
      if head and not start and sub(head, 1, 8) == digest and string.byte(head, 9) >= 144 then start = head end
      if not head or head ~= start then
        missed = missed or {}
        missed[#missed + 1] = position
      end
    end
    rows[position] = row
  end
  -- Where there is no schema nobody is known, as after a flush: that is an error, and no answer.
  if not missed and (start or redis.call('EXISTS', KEYS[2]) == 1) then return rows end
end
-- @include clock
-- @include parse
-- @include window
-- @include schema
-- @include row
-- @include answer
local selection, failure
if digest then
  if not missed then
    failure = select(2, read_schema(KEYS[2], { named }))
    return failure or rows
  end
  for _, position in ipairs(missed) do
    local row = row_of_layout(rows[position], digest)
    if not row and not selection then
      selection, failure = read_schema(KEYS[2], { named })
      if failure then return failure end
    end
    row = row or answer_of(KEYS[2 + position], selection)
    rows[position] = row and digest .. row or false
  end
  return rows
end
local name_count = parse_count(ARGV[1], 5000)
if not name_count or id_count < 1 or id_count > 5000 or #ARGV ~= 1 + name_count + id_count then
  return redis.error_reply('BADARGS want keys members, schema, hash per id; then n, n names, an id per hash'
    .. ' (1 to 5000)')
end
selection, failure = read_schema(KEYS[2], { unpack(ARGV, 2, 1 + name_count) })
if failure then return failure end
local known = pcall('SMISMEMBER', KEYS[1], unpack(ARGV, 2 + name_count))
if known.err then return known end
local answers = { array_head(id_count) }
for position = 1, id_count do
  local answer = known[position] == 1 and answer_of(KEYS[2 + position], selection, answers)
  answers[#answers + 1] = answer or '\192' -- msgpack's nil
end
-- table.concat copies again and again what is longer than its buffer of 8 KiB, `..` does not.
local eighth, texts = math.ceil(#answers / 8), {}
for number = 1, 8 do
  texts[number] = table.concat(answers, '', (number - 1) * eighth + 1, math.min(number * eighth, #answers))
end
return texts[1] .. texts[2] .. texts[3] .. texts[4] .. texts[5] .. texts[6] .. texts[7] .. texts[8]
