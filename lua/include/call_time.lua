-- @include parse_time
-- @include time_error
-- The event time of all rows of a call: false where `text` is empty, which means now. Or nil and an error reply.
local function read_call_time(text)
  local time = text ~= '' and parse_time(text)
  if time == nil then return nil, redis.error_reply('BADTIME ' .. time_error(text)) end
  return time
end
