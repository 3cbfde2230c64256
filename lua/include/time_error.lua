-- @include text
-- What is wrong with `text` as an event time.
local function time_error(text)
  return 'the event time must be ms since 1970 or ISO 8601 such as 2026-08-21T10:00:00Z, not ' .. shown(text)
end
