--[[
Reads the features of one entity, typed by the schema.

KEYS[1]  hash      the entity's features
KEYS[2]  members   a set: ids of all known entities
KEYS[3]  schema    a hash: the schema

ARGV[1]  id        the entity's id, as it stands in the set
ARGV[2…] names     the features wanted; none: those of the packed row, which are all declared ones in declared order
                   but the vectors; the one word '@' .. layout: the same, as rows of that layout are stored, or if the
                   schema still has it.
                   Options, before or among them: ?service=NAME, the features that the schema lists under that name;
                   ?max_age=MS, values older than that are nil; ?metadata, see the reply. ?current in front of a layout
                   makes sure that the schema still has it, also where a row of it is stored

Reply    nil when the id is unknown, has expired or has no hash; else one msgpack array aligned with the names. A
         feature that is missing or too old, or whose stored text is not of its type, is nil. An int beyond 2^53 is a
         decimal string; a whole float may arrive as a msgpack int; a vector is 4 bytes a number, little-endian. By
         layout, with no option but ?current in front, the layout's 8 bytes stand before the array.
         With ?metadata, an array of 5: that array; the event time in ms; its age in ms by Redis's clock; a string
         with a letter for each feature: P present, M missing, D default, S stale; an array of the features' event
         times. What is not known is nil.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(names). An unknown id costs one SISMEMBER and one EXISTS of the schema; all features by layout cost a
         SISMEMBER and one HGET, if the entity has a packed row of that layout.
]]
local function get_features(KEYS, ARGV)
  -- @include bytes
  -- @include row_format
  -- @include schema_errors
  local pcall, string = redis.pcall, string -- locals are quicker than globals
  if #KEYS ~= 3 or #ARGV < 1 or #ARGV > 5001 then
    return redis.error_reply('BADARGS want 3 keys (hash, members, schema), then id and at most 5000 names')
  end
  local wanted, by_layout, found = ARGV[2], #ARGV == 2, nil
  if wanted == '?current' and #ARGV == 3 and string.byte(ARGV[3]) == AT_SIGN then
    local current = pcall('HGET', KEYS[3], '@layout')
    if type(current) == 'string' and ARGV[3] ~= '@' .. current then return redis.error_reply(SCHEMA_CHANGED) end
    wanted, by_layout = ARGV[3], true
  end
  local known = pcall('SISMEMBER', KEYS[2], ARGV[1])
  if known ~= 1 then
    if known == 0 and pcall('EXISTS', KEYS[3]) == 1 then return false end -- without a schema nobody would be known
    if type(known) == 'table' then return known end
  end
  by_layout = by_layout and string.byte(wanted) == AT_SIGN
  if by_layout then
    -- The usual read ends here, before the functions for all others are even made.
    found = pcall('HGET', KEYS[1], '@row')
    if type(found) == 'string' and '@' .. string.sub(found, 1, LAYOUT_BYTES) == wanted
      and string.byte(found, LAYOUT_BYTES + 1) >= LEAST_ARRAY then return found end
  end
  -- @include row
  -- @include strings
  -- @include wanted
  -- @include answer
  found = found and row_of_layout(found, sub(wanted, 2))
  if not found then
    local selection, failure = read_wanted(KEYS[3], { unpack(ARGV, 2) })
    if failure then return failure end
    found = answer_of(KEYS[1], selection)
  end
  -- A read by layout gets here with the schema's own layout only: read_wanted refuses any other.
  return found and by_layout and sub(wanted, 2) .. found or found or false
end
