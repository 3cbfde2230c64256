--[[
Writes complete rows, of known and of new entities. The caller has made what is stored: the packed row, and the text of
each feature. So no value is checked or packed here, which is half of what upsert_features costs. A row is left where
something newer is stored, where the entity was deleted at that time, where the key holds no hash or is not that of the
id, where the time is none or too far ahead, where the packed row is none of the layout, and where the row is too old to
be served. The caller sends such a row through upsert_features, which tells what is wrong with it.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each row's entity, whose key carries the row's id

ARGV[1]  layout    of the schema that the rows are made by; none of its features is a window
ARGV[2]  time      event time of all rows, in ms since 1970; empty: now, by Redis's clock, whatever is stored; '@': each
                   row has its own
ARGV[3]  n         how many names and options follow
ARGV[4…] names     of all features, in the order in which rows give them. The option `?verdicts` before them asks for
                   the third part of the reply
then     rows      one word: a msgpack array of strings. For each hash: the id; its time, if rows have their own; the
                   packed row; and the text of each feature, which of a vector is its bytes. The packed row is the
                   layout, followed by its features as a msgpack array in the schema's order, as cmsgpack packs them and
                   vectors as bin. A feature that is removed has false in its text's place and nil in the packed row,
                   and `|time=name,name|` stands between layout and array, with the row's time and the names of all
                   these in the schema's order; none of them has a default. The caller makes sure that all values are
                   of the features' types, and the same in packed row and texts

Reply    array of 2: how many rows are stored now, those that already were included; and an array with the position,
         counted from 0, of each row that was left. On demand a third, a letter for each row: C created, A applied, D
         duplicate (the same values of the same time were there), L left.
Errors   BADARGS, BADTIME, NOSCHEMA, SCHEMA_CHANGED (the schema has another layout), and Redis's own (NOPERM, OOM,
         READONLY, WRONGTYPE for a members or schema key of another type). After an error nothing has been written.
Cost     O(rows * n)
]]
local function replace_rows(KEYS, ARGV)
  -- @include call_time
  -- @include clock
  -- @include complete_rows
  -- @include count
  -- @include write_permissions
  -- @include schema
  -- @include schema_errors
  -- @include usage
  -- @include write_complete
  local row_count, name_count = #KEYS - 2, parse_count(ARGV[3], 2000)
  local WANTED = 'keys members, schema, hash per row; then layout, time, n, n names or options, and a msgpack array'
    .. ' with id, time if it has its own, packed row and a text per name for each row'
  local timed = ARGV[2] == '@' and 1 or 0
  if row_count < 1 or not name_count or #ARGV ~= 4 + name_count then
    return usage(WANTED, KEYS, ARGV, row_count > 0 and name_count and 4 + name_count)
  end
  local names = { unpack(ARGV, 4, 3 + name_count) }
  local letters = names[1] == '?verdicts' and table.remove(names, 1) and {}
  -- One argument with all rows: every further argument would cost Redis 0.1 us.
  local words = unpack_words(ARGV[4 + name_count], row_count * (2 + timed + #names))
  if not words then return usage(WANTED, KEYS, ARGV) end
  local declared, failure = read_layout(KEYS[2])
  if failure then return failure end
  local latest, time = now() + declared.max_ahead, false
  if timed == 0 then time, failure = read_call_time(ARGV[2], latest) end
  if failure then return failure end
  if declared.layout ~= ARGV[1] then return redis.error_reply(SCHEMA_CHANGED) end
  local members = redis.pcall('SCARD', KEYS[1])
  if type(members) == 'table' then return members end
  local compares = false
  if not are_all_features(names, declared) then
    return redis.error_reply('BADARGS the names must be those of all features, and none of these a window')
  end
  if ARGV[2] ~= '' then -- without a time, rows are written whatever is stored
    compares, failure = is_any_stored(KEYS)
    if failure then return failure end
  end
  failure = forbidden_write(KEYS, KEYS[3], declared)
  if failure then return failure end
  return write_complete(KEYS, declared, {
    words = words, names = names, timed = timed, time = time or now(), latest = latest, compares = compares,
    letters = letters,
  })
end
