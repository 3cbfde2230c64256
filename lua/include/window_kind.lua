-- Sliding windows: count(10m), sum(amount, 1h). A window is kept as 60 buckets, so it moves in steps of a sixtieth.
local BUCKETS = 60

-- What a kind such as `count(10m)` means: the event's `field` (nil for a count), the `step` in ms; nil for other kinds.
local function parse_window(kind)
  local amount, unit = string.match(kind, '^count%((%d+)([smhd])%)$')
  local field
  if not amount then field, amount, unit = string.match(kind, '^sum%(([%a_][%w_.-]*), ?(%d+)([smhd])%)$') end
  if not amount or #amount > 6 or tonumber(amount) == 0 then return nil end
  local seconds = (unit == 's' and 1) or (unit == 'm' and 60) or (unit == 'h' and 3600) or 86400
  return { field = field, step = math.ceil(amount * seconds * 1000 / BUCKETS) }
end
