--[[
Counts events in the sliding windows that the schema declares, such as count(10m) or sum(amount, 1h). Each event stands
or falls by itself.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each event's entity, whose key carries the event's id

ARGV[1]  time      event time of all events, in ms since 1970 or ISO 8601; empty: now, by Redis's clock
ARGV[2]  n         how many fields follow
ARGV[3…] fields    the names of the n numbers that each event has; `@event_time` as the first: the event's own time;
                   `@event_id`: text that tells events apart, empty for none. An event is not counted again while its
                   id is among the last 64 that the entity had
then     events    for each hash: the id, then n numbers as text; the byte FE for one that the event has not

Reply    array of 4: how many events were counted; how many were skipped, being out of every window, older than the ttl,
         from before the entity's deletion, or counted already; an array with an entry for each rejected event: its
         position, counted from 0, its code (BADID, BADTIME, BADTYPE or WRONGTYPE) and the reason as text; and a letter
         for each event: C the first thing known of the entity, A counted, S skipped, D counted already, R rejected.
Errors   BADARGS, BADTIME, NOSCHEMA, UNDECLARED (the schema has no windows, or none that sums a field), and Redis's own
         (NOPERM, OOM, READONLY, WRONGTYPE). After an error nothing has been written.
Cost     O(events * features). A window keeps at most 120 numbers an entity, whatever happens; `@seen`, the digests
         of ids, has at most 1 KiB.
]]
local function record_events(KEYS, ARGV)
  -- @include call_time
  -- @include clock
  -- @include count
  -- @include event
  -- @include write_permissions
  -- @include rows
  -- @include schema
  local field_count, event_count = parse_count(ARGV[2], 2000), #KEYS - 2
  local fields = field_count and { unpack(ARGV, 3, math.min(2 + field_count, #ARGV)) } or {}
  local timed = fields[1] == '@event_time' and 1 or 0
  local stride = 1 + #fields
  if not field_count or event_count < 1 or #ARGV ~= 2 + field_count + event_count * stride then
    -- @include usage
    return usage('keys members, schema, hash per event; then time, n, n fields (at most 2000), and an id and a number'
      .. ' per field for each event', KEYS, ARGV,
      field_count and event_count > 0 and 2 + field_count + event_count * stride)
  end
  local declared, failure = read_layout(KEYS[2])
  if failure then return failure end
  local latest = now() + declared.max_ahead
  local time
  time, failure = read_call_time(ARGV[1], latest)
  if failure then return failure end
  if not declared.windows or not next(declared.windows) then
    return redis.error_reply('UNDECLARED no sliding window is declared in the schema')
  end
  local summed = { ['@event_id'] = true }
  for _, window in pairs(declared.windows) do
    if window.field then summed[window.field] = true end
  end
  for position = 1 + timed, #fields do
    if not summed[fields[position]] then
      -- @include text
      return redis.error_reply('UNDECLARED ' .. shown(fields[position]) .. ' of an event is summed by no window')
    end
  end
  local members = redis.pcall('SCARD', KEYS[1])
  if type(members) == 'table' then return members end
  failure = forbidden_write(KEYS, KEYS[3], declared)
  if failure then return failure end

  local function record(key, before, event_time)
    local event, reason = read_event(ARGV, before, fields, timed)
    if reason then return nil, nil, 'BADTYPE', reason end
    return record_event(key, declared, event, event_time)
  end
  return take_rows(KEYS, ARGV, {
    before = 2 + field_count, stride = stride, timed = timed, time = time, latest = latest,
    verdicts = {}, skips_repeated = true,
  }, record)
end
