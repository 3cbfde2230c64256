-- Sliding windows: count(10m), sum(amount, 1h). A window is kept as 60 buckets, so it moves in steps of a sixtieth; a
-- bucket leaves it at once when its time has come, whoever looks. Stored as `number:value number:value …` where number
-- is the bucket's start in steps since 1970.
local BUCKETS = 60
local UNITS = { s = 1000, m = 60000, h = 3600000, d = 86400000 }

-- What a kind such as `count(10m)` means: the event's `field` (nil for a count), the `step` in ms; nil for other kinds.
local function parse_window(kind)
  local amount, unit = string.match(kind, '^count%((%d+)([smhd])%)$')
  local field
  if not amount then field, amount, unit = string.match(kind, '^sum%(([%a_][%w_.-]*), ?(%d+)([smhd])%)$') end
  if not amount or #amount > 6 or tonumber(amount) == 0 then return nil end
  return { field = field, step = math.ceil(amount * UNITS[unit] / BUCKETS) }
end

-- The buckets that are in the window at `time` or will be: number → value.
local function read_buckets(window, text, time)
  local buckets, oldest = {}, math.floor(time / window.step) - BUCKETS
  for number, value in string.gmatch(text or '', '(%d+):(%S+)') do
    if tonumber(number) > oldest then buckets[tonumber(number)] = tonumber(value) end
  end
  return buckets
end

-- What the window holds at `time`, and when that changes without another event (nil: never).
local function read_window(window, text, time)
  local current, total, changes = math.floor(time / window.step), 0, nil
  for number, value in pairs(read_buckets(window, text, time)) do
    local change = number * window.step
    if number <= current then
      total, change = total + value, change + BUCKETS * window.step
    end
    if not changes or change < changes then changes = change end
  end
  return total, changes
end
