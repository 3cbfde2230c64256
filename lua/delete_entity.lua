--[[
Removes one entity: its features and its membership, together.

KEYS[1]  hash      the entity's features
KEYS[2]  members   a set: ids of all known entities

ARGV[1]  id        the entity's id, as it stands in the set
ARGV[2]  time      optional: when it was deleted, in ms since 1970 or ISO 8601; empty: now, by Redis's clock. With it, a
                   tombstone stays at the hash's key, also where there was nothing or a tombstone of an earlier time:
                   upserts with an event time up to that are stale
ARGV[3]  keep      how long the tombstone stays, in ms; a day when left out

Reply    1 when something was removed; 0 when there was nothing; -1 when what is stored is newer than the time given,
         and stays.
Errors   BADARGS, BADTIME, and Redis's own (WRONGTYPE for a members key of another type, OOM for the tombstone,
         READONLY). After an error nothing has been removed.
Cost     O(features)
]]
local function delete_entity(KEYS, ARGV)
  -- @include clock
  -- @include parse_time
  -- @include row_format
  -- @include time_text
  local time, keep = ARGV[2], ARGV[3] or '86400000'
  if #KEYS ~= 2 or #ARGV < 1 or #ARGV > 3 or not string.find(keep, '^%d+$') or #keep > 13 then
    return redis.error_reply('BADARGS want 2 keys (hash, members), then the id, and for a tombstone its time and ms')
  end
  local given = (time or '') ~= '' and parse_time(time)
  if given == nil then return redis.error_reply('BADTIME the time must be ms since 1970 or ISO 8601') end
  local there = redis.pcall('SISMEMBER', KEYS[2], ARGV[1])
  if type(there) == 'table' then return there end
  local stored = redis.pcall('HMGET', KEYS[1], '@event_time', '@row')
  local newest = not stored.err and tonumber(stored[1] or nil) or 0
  local tombstone = not stored.err and stored[2] == DELETED
  if given and newest > given and not tombstone then return -1 end
  local removed = there == 1 or (not tombstone and redis.call('EXISTS', KEYS[1]) == 1)
  if not removed and (not time or keep == '0' or (tombstone and newest >= (given or now()))) then return 0 end
  redis.call('SREM', KEYS[2], ARGV[1])
  redis.call('DEL', KEYS[1])
  if time and keep ~= '0' then
    redis.call('HSET', KEYS[1], '@event_time', time_text(given or math.max(newest, now())), '@row', DELETED)
    redis.call('PEXPIRE', KEYS[1], keep)
  end
  return removed and 1 or 0
end
