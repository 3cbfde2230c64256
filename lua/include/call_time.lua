-- @include event_time
-- The event time of all rows of a call: false where `text` is empty, which means now. Or nil and an error reply.
local function read_call_time(text, latest)
  local time = text ~= '' and read_time(text, latest)
  if time == nil then
    -- @include time_error
    return nil, redis.error_reply('BADTIME ' .. time_error(text))
  end
  return time
end
