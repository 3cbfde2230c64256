-- Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that start in March, so that the leap day
-- is the last one.
local function days_since_1970(year, month, day)
  if month <= 2 then year, month = year - 1, month + 12 end
  local leap_days = math.floor(year / 4) - math.floor(year / 100) + math.floor(year / 400)
  return 365 * year + leap_days + math.floor((153 * (month - 3) + 2) / 5) + day - 719469
end

-- The time that `text` tells in ISO 8601, in ms since 1970; nil for anything else. As in 2026-08-21T10:00:00.123Z, but
-- the seconds or the time of day may be missing, and no offset means UTC.
local function parse_iso_time(text)
  local year, month, day, rest = string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)(.*)$')
  if not year then return nil end
  local hour, minute, second, fraction, zone = '0', '0', '0', nil, ''
  if rest ~= '' then
    hour, minute, rest = string.match(rest, '^[T ](%d%d):(%d%d)(.*)$')
    if not hour then return nil end
    second, zone = string.match(rest, '^:(%d%d)(.*)$')
    if second then fraction = string.match(zone, '^%.(%d+)') end
    if fraction then zone = string.sub(zone, 2 + #fraction) end
    second, zone = second or '0', zone or rest
  end
  local sign, hours, minutes = string.match(zone, '^([+-])(%d%d):?(%d%d)$')
  if not sign then
    sign, hours = string.match(zone, '^([+-])(%d%d)$')
    minutes = '0'
  end
  if not sign and zone ~= 'Z' and zone ~= '' then return nil end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  local leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  local days = 30 + (month + math.floor(month / 8)) % 2 -- 31 and 30 in turn, but 31 in both July and August
  if month == 2 then days = leap and 29 or 28 end
  if month < 1 or month > 12 or day < 1 or day > days then return nil end
  if tonumber(hour) > 23 or tonumber(minute) > 59 or tonumber(second) > 59 then return nil end
  local seconds = ((days_since_1970(year, month, day) * 24 + hour) * 60 + minute) * 60 + second
  if sign then
    if tonumber(hours) > 23 or tonumber(minutes) > 59 then return nil end
    seconds = seconds - tonumber(sign .. '1') * (hours * 60 + minutes) * 60
  end
  local time = seconds * 1000 + (fraction and tonumber(string.sub(fraction .. '00', 1, 3)) or 0)
  return time >= 0 and time or nil
end
