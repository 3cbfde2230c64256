--[[
Counts entries of a stream, each of them once, however often it is delivered: increments of numeric features, or events
for the sliding windows. What was counted stands in a set beside the features, and the two change together. The caller
takes an entry out of the set (SREM) once the entry cannot be delivered again. Each entry stands or falls by itself.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3]  counted   a set: the entries that were counted
KEYS[4…] hashes    the features of each entry's entity, whose key carries the entry's id

ARGV[1]  time      event time of all entries, in ms since 1970 or ISO 8601; empty: now, by Redis's clock
ARGV[2]  n         how many words follow
ARGV[3]  what      `?increments` or `?events`
ARGV[4…] names     for increments, the features, as increment_features takes them; for events, the fields, as
                   record_events takes them, `@event_id` included. In front of them stand `@event_time`, if entries have
                   their own (empty: that of all), and `@entry_id`: what tells an entry from all others in the set
then     entries   for each hash: the id of the entity, then a word for each name: the amounts and numbers as text; the
                   byte FE for one that the entry has not

Reply    array of 4, as that of record_events: how many entries were counted; how many were skipped, being counted
         already, from before the entity's deletion, out of every window, or older than the ttl; an array with an entry
         for each rejected one: its position, counted from 0, its code (BADARGS, BADID, BADTIME, BADTYPE or WRONGTYPE)
         and the reason as text; and a letter for each: C the first thing known of the entity, A counted, S skipped,
         D counted already, R rejected.
Errors   BADARGS, BADTIME, NOSCHEMA, UNDECLARED, and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE). After an error
         nothing has been written, but for entries before the one that met it, which are in the set.
Cost     O(entries * features)
]]
local function count_entries(KEYS, ARGV)
  -- @include call_time
  -- @include clock
  -- @include count
  -- @include counted_names
  -- @include counting
  -- @include write_permissions
  -- @include rows
  -- @include schema
  local word_count, row_count, counted = parse_count(ARGV[2], 2000), #KEYS - 3, KEYS[3]
  local names = { unpack(ARGV, 4, math.min(2 + (word_count or 0), #ARGV)) }
  local timed = names[1] == '@event_time' and 1 or 0
  local events = ARGV[3] == '?events'
  local stride = 1 + #names
  if not word_count or row_count < 1 or #ARGV ~= 2 + word_count + row_count * stride or names[1 + timed] ~= '@entry_id'
    or (not events and ARGV[3] ~= '?increments') then
    -- @include usage
    return usage('keys members, schema, counted, hash per entry; then time, n, ?increments or ?events, [@event_time],'
      .. ' @entry_id, names, and an id and a word per name for each entry', KEYS, ARGV,
      word_count and row_count > 0 and 2 + word_count + row_count * stride)
  end
  local declared, failure = read_layout(KEYS[2])
  if failure then return failure end
  local latest = now() + declared.max_ahead
  local time
  time, failure = read_call_time(ARGV[1], latest)
  failure = failure or names_error(names, 1 + timed, declared, events)
  if failure then return failure end
  for position = 1, 3, 2 do
    local size = redis.pcall('SCARD', KEYS[position])
    if type(size) == 'table' then return size end
  end
  -- @include permissions
  failure = forbidden_write(KEYS, KEYS[4], declared) or refusal(KEYS[2], 'SADD', counted, '')
  if failure then return failure end

  table.remove(KEYS, 3)
  local count = events and record_entry or increment_entry
  local function write(key, before, event_time)
    local entry = ARGV[before + 1]
    if redis.call('SISMEMBER', counted, entry) == 1 then return 'D' end
    local verdict, reply, code, reason = count(key, declared, ARGV, before + 1, names, 1 + timed, event_time)
    if verdict then redis.call('SADD', counted, entry) end
    return verdict, reply, code, reason
  end
  return take_rows(KEYS, ARGV, {
    before = 2 + word_count, stride = stride, timed = timed, time = time, latest = latest,
    verdicts = {}, skips_repeated = true,
  }, write)
end
