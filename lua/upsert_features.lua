--[[
Writes features of many entities. Each row stands or falls by itself: a row that is rejected changes nothing, the
others are written. Features not named keep what is stored. A value is written only if its event time is not older than
that of the feature's stored value, so that late and repeated rows cannot undo newer ones.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each row's entity, whose key carries the row's id

ARGV[1]  time      event time of all rows, in ms since 1970 or ISO 8601; empty: now, by Redis's clock, whatever is
                   stored
ARGV[2]  n         how many names and options follow
ARGV[3…] names     the features that each row gives. Options stand before them: `?overwrite` writes values that are
                   older than the stored ones too; `?verdicts` asks for the fourth part of the reply. A first name that
                   is a layout makes sure that the schema still has it, and alone stands for all features of it.
                   `@event_time` before the features' names is a column with the event time of each row (empty: that
                   of all rows)
then     rows      for each hash: the id, then a value for each name but options and the layout. Two bytes that no value
                   may be are marks: FF alone removes the feature, FE alone leaves what is stored.

Reply    array of 3: how many rows were written; how many were skipped because all they give is older than what is
         stored; and an array with an entry for each rejected row: its position, counted from 0, its code (BADID,
         BADTIME, BADTYPE, WRONGTYPE, or NOPERM where features are to be removed) and the reason as text. On demand a
         fourth, a letter for each row: C created, A applied, P partly stale, S stale, D duplicate (the same values of
         the same time were there), R rejected; C, A, P and D count as written.
Errors   BADARGS, BADTIME, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE for a
         members or schema key of another type). After an error nothing has been written.
Cost     O(rows * n); the packed row (`@row`) is kept with the fields: rows that give every feature need no read for
         it, others one HMGET.
]]
local function upsert_features(KEYS, ARGV)
  -- @include call_time
  -- @include cells
  -- @include clock
  -- @include columns
  -- @include count
  -- @include write_permissions
  -- @include replace
  -- @include row_options
  -- @include rows
  -- @include schema
  -- @include schema_errors
  -- @include time_text

  local function make_merge() -- when the first row needs it: to make the functions costs, and most rows are complete
    -- @include merge
    return merge
  end

  local word_count, row_count = parse_count(ARGV[2], 2000), #KEYS - 2
  local names = { unpack(ARGV, 3, math.min(2 + (word_count or 0), #ARGV)) }
  local rows, failure = take_options(names)
  if failure then return failure end
  local fit, declared = word_count and row_count > 0, nil
  if fit and rows.layout then
    declared, failure = read_layout(KEYS[2])
    if failure then return failure end
    if declared.layout ~= rows.layout then return redis.error_reply(SCHEMA_CHANGED) end
    if #names == 0 then names = { unpack(declared.names) } end
  end
  rows.stride = 1 + rows.timed + #names
  if not fit or #ARGV ~= 2 + word_count + row_count * rows.stride then
    -- @include usage
    return usage('keys members, schema, hash per row; then time, n, n names or options (at most 2000), and an id and a'
      .. ' value per name for each row', KEYS, ARGV, fit and 2 + word_count + row_count * rows.stride)
  end
  rows.before = 2 + word_count
  if not declared then
    declared, failure = read_layout(KEYS[2])
    if failure then return failure end
  end
  rows.latest = now() + declared.max_ahead
  rows.time, failure = read_call_time(ARGV[1], rows.latest)
  if failure then return failure end
  -- Whether this is a set. The usual call for one row is for a known id, which need not be added.
  local known
  if row_count == 1 then known = redis.pcall('SISMEMBER', KEYS[1], ARGV[rows.before + 1])
  else known = redis.pcall('SCARD', KEYS[1]) end
  if type(known) == 'table' then return known end
  rows.known = row_count == 1 and known == 1
  local columns
  columns, failure = place_columns(names, declared)
  failure = failure or forbidden_write(KEYS, KEYS[3], declared, rows.known)
  if failure then return failure end
  local pcall, fields, ttl, whole = redis.pcall, columns.fields, declared.ttl, columns.whole
  local time_word, merge_row

  local function write(key, before, time, checks, row)
    local marked, reason = read_cells(columns, ARGV, before, row)
    if reason then return nil, nil, 'BADTYPE', reason end
    if time ~= time_word then time_word, fields[4] = time, time_text(time) end
    local stored = checks and pcall('HMGET', key, '@event_time', '@row', '@floor') or nil
    if stored and stored.err then return nil, stored end
    if ttl > 0 and time + ttl < now() then return 'S' end -- it would expire at once
    if whole and not marked then
      local verdict, reply = replace(key, declared, columns, stored, time, checks)
      if verdict or reply then return verdict, reply end
    end
    merge_row = merge_row or make_merge()
    return merge_row(key, declared, columns, stored, time, checks)
  end
  return take_rows(KEYS, ARGV, rows, write)
end
