--[[
Reads the features of many entities, typed by the schema. Keep a call to about 100 ids: a script holds Redis while it
runs, and several calls sent in one write are still one round trip.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each entity asked for, whose key carries its id

ARGV[1]  n         how many names and options follow
ARGV[2…] names     the n features wanted, with options, or a layout, or a layout and names, as get_features takes them;
                   n = 0: all of the row. ?most=N, 1 to 1000000: the call makes about N values at most, but for the
                   first row that it makes. Values of rows that are handed on as they are stored count nothing, those
                   of other stored rows of the layout a quarter, those that are made of fields one, and a window of
                   either 16 more. Not for names alone without ?metadata, where the caller knows how many there are
then     ids       one for each hash, in the same order; duplicates are fine

Reply    one msgpack array aligned with the ids: nil for an id that get_features answers nil to, else such an array.
         Where the caller did not name the features or named a layout, and with ?metadata, an array aligned with the ids
         in place of that: nil, or what get_features answers, or the number 0 for an entity behind what ?most permits:
         ask for it again.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (WRONGTYPE for a members or schema key of
         another type).
Cost     O(ids * names), with one SMISMEMBER for all ids. An unknown id costs no more than its share of that; where all
         are unknown, one HGET of the schema.
]]
local function get_features_batch(KEYS, ARGV)
  -- @include bytes
  -- @include row_format
  -- @include schema_errors
  -- @include stored_rows
  -- @include strings
  local id_count, before_ids = #KEYS - 2, 2
  local rows, begins, missed, foreign, most, is_sure
  local named = ARGV[2] or ''
  while byte(named) == QUESTION_MARK do -- options in front of a layout
    -- @include most_option
    if named == '?current' then is_sure = true
    else
      most = tonumber(string.match(named, MOST))
      if not most or most > MOST_VALUES then break end
    end
    before_ids = before_ids + 1
    named = ARGV[before_ids] or ''
  end
  -- The number of words has one digit here.
  if byte(ARGV[1] or '') == before_ids + 47 and #ARGV[1] == 1 and id_count > 0 and id_count <= 5000
    and #ARGV == before_ids + id_count and #named == LAYOUT_BYTES and byte(named) == AT_SIGN then
    if is_sure then
      local current = redis.pcall('HGET', KEYS[2], '@layout')
      if type(current) == 'string' and named ~= current then return redis.error_reply(SCHEMA_CHANGED) end
    end
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
    if not missed and not foreign and (begins or redis.call('HGET', KEYS[2], '@layout')) then return rows end
  end
  if foreign then
    -- @include foreign_key
    local failure = foreign_key(KEYS, ARGV, before_ids, id_count)
    if failure then return failure end
  end
  if missed then
    -- @include make_rows
    return make_rows(KEYS, named, rows, missed, most)
  end
  -- @include wanted
  if rows then
    local failure = select(2, read_wanted(KEYS[2], { named }))
    return failure or rows
  end
  -- @include read_batch
  return read_batch(KEYS, ARGV)
end
