--[[
Reads the features of one entity, typed by the schema.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3]  hash      the entity's features; its key carries the id

ARGV[1]  id        the entity's id, as it stands in the set
ARGV[2…] names     the features wanted; none: those of the packed row, which are all declared ones in declared order
                   but vectors that are not `always`; a layout: the same, as it is stored by that layout, else made if
                   the schema still has that; a layout and behind it names: both, if the schema still has that layout.
                   The names need not be of the row: vectors, say.
                   Options, before or among them: ?service=NAME, the features that the schema lists under that name;
                   ?max_age=MS, values older than that are nil; ?metadata, see the reply; ?most=N where
                   get_features_batch takes it, which changes nothing here. ?current in front of a layout makes sure
                   that no schema with another one is stored, also where a row of it is

Reply    nil when the id is unknown, has expired or has no hash; else one msgpack array aligned with the names. A
         feature that is missing or too old, or whose stored text is not of its type, is nil. A float is a msgpack
         float, or an int where it is whole and fits 32 bits; a vector is 4 bytes a number, little-endian.
         Where the caller did not name the features, 8 bytes before the array tell what it is aligned with: the layout,
         or the service's digest.
         With a layout and names, an array of 2: the row, behind its layout; a msgpack array aligned with the names.
         With ?metadata, an array of 5: the row; the event time in ms; its age in ms by Redis's clock; a string
         with a letter for each feature: P present, M missing, D default, S stale; an array of the features' event
         times. What is not known is nil. With a layout and names, of 6: letters and times are those of the row's
         features, then of those named, whose msgpack array is the sixth.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(names). An unknown id costs one SISMEMBER and one HGET of the schema; all features by layout cost a
         SISMEMBER and one HGET, if the entity has a packed row of that layout. Names behind a layout add what they cost
         alone. ?metadata, ?max_age and a row past its time are told by the packed row too; fields are fetched for
         windows, and where the row does not tell: for ?metadata, what is like its default, and nil that may be stale.
]]
local function get_features(KEYS, ARGV)
  -- @include bytes
  -- @include row_format
  -- @include schema_errors
  local try, string = redis.pcall, string -- locals are quicker than globals
  local entity, asked, by_layout, found = ARGV[1], ARGV[2], #ARGV == 2, nil
  local fits = #KEYS == 3 and entity and #ARGV <= 5001
  local is_own = fits and KEYS[3] == string.sub(KEYS[2], 1, -7) .. entity .. ':features' -- as in key_form
  if is_own then
    if asked == '?current' and #ARGV == 3 and string.byte(ARGV[3]) == AT_SIGN then
      local current = try('HGET', KEYS[2], '@layout')
      if type(current) == 'string' and ARGV[3] ~= current then return redis.error_reply(SCHEMA_CHANGED) end
      asked, by_layout = ARGV[3], true
    end
    local known = try('SISMEMBER', KEYS[1], entity)
    if known ~= 1 then
      if type(known) == 'table' then return known end
      local layout = try('HGET', KEYS[2], '@layout') -- without a schema nobody would be known
      if layout then return type(layout) == 'table' and layout or false end
    end
    by_layout = by_layout and known == 1 and string.byte(asked) == AT_SIGN
    if by_layout then
      -- The usual read ends here, before the functions for all others are even made.
      found = try('HGET', KEYS[3], '@row')
      if found and not found.err and string.sub(found, 1, LAYOUT_BYTES) == asked then -- no string has `err`
        local head = string.byte(found, LAYOUT_BYTES + 1) or 0 -- ARRAY in numbers, which is quicker
        if head > 144 and (head < 160 or head == 220) then return found end
      end
    end
  end
  if not fits then
    -- @include usage
    return usage('3 keys (members, schema, hash), then id and at most 5000 names or options', KEYS, ARGV)
  end
  if not is_own then
    -- @include key_error
    return redis.error_reply('BADARGS ' .. key_error(KEYS[2], entity, KEYS[3]))
  end
  if found then
    -- @include clock
    -- @include find_array
    local start, limit = find_array(found, asked)
    if start and (limit == '' or now() <= tonumber(limit)) then return asked .. string.sub(found, start) end
  end
  -- @include wanted
  -- A read by layout alone gets here with the schema's own layout only: read_wanted refuses any other.
  local wanted, failure = read_wanted(KEYS[2], { unpack(ARGV, 2) })
  if failure then return failure end
  if wanted.row_layout then
    -- @include row_answer
    return answer_by_layout(KEYS[3], wanted) or false
  end
  -- @include answer
  return answer_by_names(KEYS[3], wanted) or false
end
