--[[
Counts events in the sliding windows that the schema declares, such as count(10m) or sum(amount, 1h). Each event stands
or falls by itself.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each event's entity

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
Errors   BADARGS, BADTIME, NOSCHEMA, UNDECLARED (the schema has no windows, or none that sums a field), and Redis's own.
         After an error nothing has been written.
Cost     O(events * features). A window keeps at most 120 numbers an entity, whatever happens; `@seen`, the digests
         of ids, has at most 1 KiB.
]]
-- @include clock
-- @include time
-- @include parse
-- @include time_error
-- @include window
-- @include schema
-- @include row
-- @include entity
-- @include touch
-- @include members
-- The buckets after an event of `amount` at `event_time`; nil when it is out of the window already, or as far ahead;
-- false when they would add up to no float.
local function add_event(window, text, event_time, amount, time)
  local number, current = math.floor(event_time / window.step), math.floor(time / window.step)
  if number <= current - BUCKETS or number >= current + BUCKETS then return nil end
  local buckets, parts, size = read_buckets(window, text, time), {}, 0
  buckets[number] = (buckets[number] or 0) + amount
  for each, value in pairs(buckets) do
    parts[#parts + 1], size = string.format('%.0f:%.17g', each, value), size + math.abs(value)
  end
  if size == huge then return false end
  table.sort(parts)
  return table.concat(parts, ' ')
end

-- `seen` with the digest of one more id behind it, without the oldest beyond the last 64; nil where it was there.
local REMEMBERED, DIGEST = 64, 16
local function remember(seen, event_id)
  local digest = string.sub(redis.sha1hex(event_id), 1, DIGEST)
  local position = find(seen, digest, 1, true)
  while position do
    if position % DIGEST == 1 then return nil end
    position = find(seen, digest, position + 1, true)
  end
  return string.sub(seen, -(REMEMBERED - 1) * DIGEST) .. digest
end

local word_count, event_count = parse_count(ARGV[2], 2000), #KEYS - 2
local fields = word_count and { unpack(ARGV, 3, math.min(2 + word_count, #ARGV)) } or {}
local timed = fields[1] == '@event_time'
local stride = 1 + #fields
if not word_count or event_count < 1 or #ARGV ~= 2 + word_count + event_count * stride then
  return redis.error_reply('BADARGS want keys members, schema, hash per event; then time, n, n fields, and id + n'
    .. ' numbers per event (n at most 2000)')
end
local given_time = ARGV[1] ~= '' and parse_time(ARGV[1])
if given_time == nil then
  return redis.error_reply('BADTIME ' .. time_error(ARGV[1]))
end
local declared, failure = read_layout(KEYS[2])
if failure then return failure end
if not declared.windows or not next(declared.windows) then
  return redis.error_reply('UNDECLARED no sliding window is declared in the schema')
end
local summed = { ['@event_id'] = true }
for _, window in pairs(declared.windows) do
  if window.field then summed[window.field] = true end
end
for position = timed and 2 or 1, #fields do
  if not summed[fields[position]] then
    return redis.error_reply('UNDECLARED ' .. shown(fields[position]) .. ' of an event is summed by no window')
  end
end
local members = redis.pcall('SCARD', KEYS[1])
if type(members) == 'table' then return members end

-- Count one event; return the verdict; or nil and an error reply; or nil, nil and what is wrong with the event.
local function record(key, time, numbers, event_id)
  local entity, reply = load_entity(key, declared)
  if reply then return nil, reply end
  if entity.floor and entity.floor >= time then return 'S' end
  local seen = event_id and remember(redis.call('HGET', key, '@seen') or '', event_id)
  if seen == nil and event_id then return 'D' end
  local existed, given, words = entity.base ~= nil, {}, {}
  for slot, window in pairs(declared.windows) do
    local amount = not window.field and 1 or numbers[window.field]
    local buckets = amount and add_event(window, entity.values[slot], time, amount, now())
    if buckets == false then return nil, nil, declared.names[slot] .. ' would be beyond a float' end
    if buckets then
      given[slot] = math.max(time, time_of(entity, slot, declared.names[slot]) or 0)
      entity.values[slot] = buckets
      words[#words + 1], words[#words + 2] = declared.names[slot], buckets
    end
  end
  if #words == 0 then return 'S' end
  if seen then words[#words + 1], words[#words + 2] = '@seen', seen end
  touch(entity, declared, given, time)
  if declared.ttl > 0 and entity.base + declared.ttl < now() then return 'S' end
  reply = store_entity(key, entity, declared, words)
  if reply then return nil, reply end
  return existed and 'A' or 'C'
end

local counted, skipped, rejected, verdicts, ids = 0, 0, {}, {}, {}
for event = 1, event_count do
  local base = 2 + word_count + (event - 1) * stride
  local id, time, numbers, event_id, code, reason = ARGV[base + 1], given_time or now(), {}, nil, nil, nil
  if #id == 0 or #id > 256 then code, reason = 'BADID', 'an id is 1 to 256 bytes long' end
  for position = 1, #fields do
    local text = ARGV[base + 1 + position]
    if position == 1 and timed then
      if text ~= '' then time = parse_time(text) end
      if not time and not code then
        code, reason = 'BADTIME', time_error(text)
      end
    elseif fields[position] == '@event_id' then
      if text ~= '' and text ~= '\254' then event_id = text end
    elseif text ~= '\254' then
      numbers[fields[position]] = parse('float', text)
      if not numbers[fields[position]] and not code then
        code, reason = 'BADTYPE', shown(fields[position]) .. ' of an event is a number, not ' .. shown(text)
      end
    end
  end
  local verdict, reply, excess = 'R', nil, nil
  if not code then verdict, reply, excess = record(KEYS[2 + event], time, numbers, event_id) end
  if excess then code, reason, verdict = 'BADTYPE', excess, 'R' end
  if reply then
    if string.sub(reply.err, 1, 9) ~= 'WRONGTYPE' then return reply end
    code, reason, verdict = 'WRONGTYPE', 'the key of the features holds no hash', 'R'
  elseif verdict == 'S' or verdict == 'D' then skipped = skipped + 1
  elseif not code then
    counted = counted + 1
    ids[counted] = id
  end
  if code then rejected[#rejected + 1] = { event - 1, code, reason } end
  verdicts[event] = verdict
end
add_members(KEYS[1], ids)
return { counted, skipped, rejected, table.concat(verdicts) }
