-- What `@event_time`, `@row` and `@floor` of the entity at `key` hold, or an error.
local function read_state(key) return redis.pcall('HMGET', key, '@event_time', '@row', '@floor') end

-- The time that such a field tells; nil where there is none, or what no script has written.
local function stored_time(text)
  local time = tonumber(text or nil)
  return time and time >= 0 and time < 1e15 and time or nil
end
