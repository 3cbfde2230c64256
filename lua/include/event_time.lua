-- @include parse_time
-- The event time that `text` tells; nil where it tells none, or one behind `latest`: so far ahead of Redis's clock that
-- it would keep out all that is written for as long. time_error says why.
local function read_time(text, latest)
  local time = parse_time(text)
  return time and time <= latest and time or nil
end
