-- @include window_kind
-- The buckets of a window are stored as `number:value number:value …`, where number is the bucket's start in steps
-- since 1970. A read leaves out those that are too old, so that windows need not be cleaned up.

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
