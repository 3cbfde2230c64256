-- The time that `text` tells in ms since 1970: as such ms, in at most 15 digits, but not 8, which dates have, nor 9 or
-- 10, which seconds have; or in ISO 8601. nil for anything else.
local function parse_time(text)
  if string.find(text, '^%d+$') then
    local time = tonumber(text)
    return #text <= 15 and (time < 1e7 or time >= 1e10) and time or nil
  end
  -- @include iso_time
  return parse_iso_time(text)
end
