--[[
Reads the features of one entity, typed by the schema.

KEYS[1]  hash      the entity's features
KEYS[2]  set       ids of all known entities
KEYS[3]  hash      the schema

ARGV[1]  id        the entity's id, as it stands in the set
ARGV[2…] names     the features wanted; none: all declared ones, in declared order; the one word '@' .. layout: the
                   same, if the schema still has that layout

Reply    nil when the id is unknown; else one msgpack array aligned with the names. A feature that is missing, or
         whose stored text is not of its type, is nil. An int beyond 2^53 is a decimal string; a whole float may
         arrive as a msgpack int.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(names). An unknown id costs one SISMEMBER; all features by layout cost that and one HGET, if the entity has
         a packed row of that layout.
]]
if #KEYS ~= 3 or #ARGV < 1 or #ARGV > 5001 then
  return redis.error_reply('BADARGS want 3 keys (hash, members, schema), then id and at most 5000 names')
end
local known = redis.pcall('SISMEMBER', KEYS[2], ARGV[1])
if known == 0 then return false end
if known ~= 1 then return known end
local wanted = ARGV[2]
if wanted and #ARGV == 2 and string.byte(wanted, 1) == 64 then
  -- The usual read ends here, before the functions for all others are even made; include/row.lua has the format.
  local row = redis.pcall('HGET', KEYS[1], '@row')
  if type(row) == 'string' and string.sub(row, 1, 8) == string.sub(wanted, 2) then return string.sub(row, 9) end
end
-- @include parse
-- @include schema
-- @include row
local names, kinds, failure = read_schema(KEYS[3], { unpack(ARGV, 2) })
if failure then return failure end
return pack_values(cast_fields(KEYS[1], names, kinds), #names)
