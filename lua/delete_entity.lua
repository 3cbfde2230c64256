--[[
Removes one entity: its features and its membership, together.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3]  hash      the entity's features; its key carries the id

ARGV[1]  id        the entity's id, as it stands in the set
ARGV[2]  time      optional: when it was deleted, in ms since 1970 or ISO 8601; empty: now, by Redis's clock. With it, a
                   tombstone stays at the hash's key, also where there was nothing or a tombstone of an earlier time:
                   upserts with an event time up to that are stale
ARGV[3]  keep      optional: how long the tombstone stays, in ms, where the schema's @tombstone shall not tell that; 0
                   for none. A later deletion's tombstone takes the place of an earlier one's

Reply    1 when something was removed; 0 when there was nothing; -1 when what is stored is newer than the time given,
         and stays.
Errors   BADARGS, BADTIME, NOSCHEMA, and Redis's own (WRONGTYPE for a key of another type, NOPERM, READONLY). After an
         error nothing has been removed.
Cost     O(features)
]]
local function delete_entity(KEYS, ARGV)
  -- @include call_time
  -- @include clock
  -- @include day
  -- @include foreign_members
  -- @include read_state
  -- @include own_schema
  -- @include permissions
  -- @include row_format
  -- @include time_text
  local time, keep = ARGV[2], ARGV[3]
  if #KEYS ~= 3 or #ARGV < 1 or #ARGV > 3 then
    -- @include usage
    return usage('keys members, schema, hash; then the id, and for a tombstone its time and ms', KEYS, ARGV)
  end
  if keep and (not string.find(keep, '^%d+$') or #keep > 13) then
    -- @include text
    return redis.error_reply('BADARGS the tombstone is kept for ms in at most 13 digits, not ' .. shown(keep))
  end
  local declared, failure = own_schema(KEYS, ARGV, 1)
  if failure then return failure end
  failure = foreign_members(KEYS, declared.members)
  if failure then return failure end
  if not keep then keep = redis.call('HMGET', KEYS[2], '@tombstone')[1] end
  keep = tonumber(keep or DAY)
  local given = false
  if time then given, failure = read_call_time(time, now() + declared.max_ahead) end
  if failure then return failure end
  local there, state = redis.pcall('SISMEMBER', KEYS[1], ARGV[1]), read_state(KEYS[3])
  if type(there) == 'table' then return there end
  if state.err then return state end
  local newest, floor, tombstone = stored_time(state[1]) or 0, stored_time(state[3]) or 0, state[2] == DELETED
  if given and newest > given and not tombstone then return -1 end
  local removed, buries = there == 1 or (not tombstone and redis.call('EXISTS', KEYS[3]) == 1), time and keep > 0
  if not removed and (not buries or (tombstone and newest >= (given or now()))) then return 0 end
  for _, command in ipairs(buries and { 'DEL', 'SREM', 'HSET', 'PEXPIRE' } or { 'DEL', 'SREM' }) do
    local key = command == 'SREM' and KEYS[1] or KEYS[3]
    local words = (command == 'HSET' and { '@row', '' }) or (command ~= 'DEL' and { '1' }) or {}
    failure = refusal(KEYS[2], command, key, unpack(words))
    if failure then return failure end
  end
  -- The first write is refused where none is taken. Once it was taken, full memory does not keep the tombstone out.
  local reply = redis.pcall('DEL', KEYS[3])
  if type(reply) == 'table' then return reply end
  redis.call('SREM', KEYS[1], ARGV[1])
  if buries then
    local deleted = time_text(math.max(given or math.max(newest, now()), floor))
    redis.call('HSET', KEYS[3], '@event_time', deleted, '@row', DELETED, '@floor', deleted)
    redis.call('PEXPIRE', KEYS[3], string.format('%.0f', keep))
  end
  return removed and 1 or 0
end
