--[[
Takes tokens out of a bucket, which fills up steadily: the rate limit of an API key, shared by all servers. A caller
takes some in advance, and spends them without asking again.

KEYS[1]  bucket    a string: when the bucket will be full, in us since 1970 by Redis's clock; it expires then. The
                   key is featurestore:ratelimit: and a name

ARGV[1]  rate      how many tokens come in a second: a number above 0, at most 1000000000
ARGV[2]  burst     how many the bucket holds: 1 to 1000000000
ARGV[3]  wanted    how many the caller would like: 1 to 1000000000
ARGV[4]  least     optional: how many it needs at least; 1 if left out. Where that is more than the bucket holds, a full
                   bucket gives them, and owes them then: it is filled later

Reply    three integers: how many tokens were taken, in how many ms the least may be had, and how many are left. Where
         the least is not there, nothing is taken; else the ms are 0.
Errors   BADARGS, and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE). After an error nothing has been taken.
Cost     O(1)
]]
local function take_tokens(KEYS, ARGV)
  local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
  local wanted, least = tonumber(ARGV[3]), tonumber(ARGV[4] or 1)
  local fits = #KEYS == 1 and rate and rate > 0 and rate <= 1e9
  for _, number in ipairs({ burst or 0, wanted or 0, least or 0 }) do
    fits = fits and number >= 1 and number <= 1e9 and number % 1 == 0
  end
  if not fits or #ARGV < 3 or #ARGV > 4 then
    -- @include usage
    return usage('1 key (bucket); then rate, burst and wanted, perhaps least: numbers up to 1000000000', KEYS, ARGV)
  end
  if not string.find(KEYS[1], '^featurestore:ratelimit:.') then
    -- @include text
    return redis.error_reply('BADARGS the key of a bucket is featurestore:ratelimit:NAME, not ' .. shown(KEYS[1]))
  end
  local stored = redis.pcall('GET', KEYS[1])
  if type(stored) == 'table' then return stored end
  local time = redis.call('TIME')
  local now, each = time[1] * 1000000 + time[2], 1000000 / rate
  local full_at = math.max(tonumber(stored or 0) or 0, now)
  local tokens = math.floor(burst - (full_at - now) / each + 0.000001)
  local needed = math.min(least, burst)
  if tokens < needed then
    return { 0, math.ceil((full_at - now - (burst - needed) * each) / 1000), math.max(tokens, 0) }
  end
  local taken = math.max(least, math.min(wanted, tokens))
  full_at = full_at + taken * each
  local ms = string.format('%.0f', math.ceil((full_at - now) / 1000) + 1)
  local reply = redis.pcall('SET', KEYS[1], string.format('%.0f', full_at), 'PX', ms)
  if reply.err then return reply end
  return { taken, 0, math.max(tokens - taken, 0) }
end
