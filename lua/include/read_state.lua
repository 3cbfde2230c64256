-- What `@event_time`, `@row` and `@floor` of the entity at `key` hold, or an error.
local function read_state(key) return redis.pcall('HMGET', key, '@event_time', '@row', '@floor') end
