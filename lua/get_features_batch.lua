--[[
Reads the features of many entities, typed by the schema. Keep a call to about 100 ids: a script holds Redis while it
runs, and several calls sent in one write are still one round trip.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each entity asked for, whose key carries its id

ARGV[1]  n         how many names and options follow
ARGV[2…] names     the n features wanted, with options, or a layout, as get_features takes them; n = 0: all of the row
then     ids       one for each hash, in the same order; duplicates are fine

Reply    one msgpack array aligned with the ids: nil for an id that get_features answers nil to, else such an array.
         Where the caller did not name the features, and with ?metadata, an array aligned with the ids in place of that:
         nil, or what get_features answers.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(ids * names), with one SMISMEMBER for all ids. An unknown id costs no more than its share of that; where all
         are unknown, one EXISTS of the schema.
]]
local function get_features_batch(KEYS, ARGV)
  -- @include bytes
  -- @include row_format
  -- @include schema_errors
  -- @include stored_rows
  -- @include strings
  local id_count, before_ids = #KEYS - 2, 2
  local rows, begins, missed, foreign
  if ARGV[1] == '2' and ARGV[2] == '?current' and byte(ARGV[3] or '') == AT_SIGN then
    local current = redis.pcall('HGET', KEYS[2], '@layout')
    if type(current) == 'string' and ARGV[3] ~= current then return redis.error_reply(SCHEMA_CHANGED) end
    before_ids = 3
  end
  local named = ARGV[before_ids]
  if (ARGV[1] == '1' or before_ids == 3) and id_count > 0 and id_count <= 5000 and #ARGV == before_ids + id_count
    and #named == LAYOUT_BYTES and byte(named) == AT_SIGN then
    -- The usual read ends here, before the functions for all others are even made, and hands on what is stored: in Lua
    -- it is the strings that are made that cost.
    rows = redis.pcall('SMISMEMBER', KEYS[1], unpack(ARGV, before_ids + 1))
    if rows.err then return rows end
    local fine
    fine, begins, missed, foreign = pcall(put_stored_rows, rows, KEYS, ARGV, before_ids, named)
    if not fine then -- a key holds no hash: make all rows
      begins, missed, rows = nil, {}, redis.pcall('SMISMEMBER', KEYS[1], unpack(ARGV, before_ids + 1))
      foreign = true -- perhaps: it was not looked at behind that key
      for position = 1, id_count do
        if rows[position] == 1 then missed[#missed + 1] = position end
        rows[position] = false
      end
    end
    -- Where there is no schema nobody is known, as after a flush: that is an error, and no answer.
    if not missed and not foreign and (begins or redis.call('EXISTS', KEYS[2]) == 1) then return rows end
  end
  -- @include wanted
  -- @include make_rows
  -- @include foreign_key
  -- @include read_batch
  local failure = foreign and foreign_key(KEYS, ARGV, before_ids, id_count)
  if failure then return failure end
  if missed then return make_rows(KEYS, named, rows, missed) end
  if rows then
    failure = select(2, read_wanted(KEYS[2], { named }))
    return failure or rows
  end
  return read_batch(KEYS, ARGV)
end
