-- @include parse_time
-- @include text
-- What is wrong with `text`, for which read_time returns nil.
local function time_error(text)
  local word = shown(text)
  if parse_time(text) then
    return 'the event time ' .. word .. ' is further ahead of the clock of Redis than the schema permits: @max_ahead,'
      .. ' a day if it does not say'
  end
  local digits, hint = string.match(text, '^(%d+)%.?%d*$'), ''
  if digits and #digits == 8 then hint = ' (is this a date? 2026-08-21)'
  elseif digits and (#digits == 9 or #digits == 10) then hint = ' (are these seconds?)'
  elseif digits and #digits > 15 then hint = ' (are these microseconds or nanoseconds?)' end
  return 'the event time must be ms since 1970 or ISO 8601 such as 2026-08-21T10:00:00Z, not ' .. word .. hint
end
