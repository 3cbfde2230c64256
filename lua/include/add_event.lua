-- @include window_kind
-- @include window
-- The buckets after an event of `amount` at `event_time`, as text; nil when it is out of the window already, or as far
-- ahead; false when they would add up to no float.
local function add_event(window, text, event_time, amount, time)
  local number, current = math.floor(event_time / window.step), math.floor(time / window.step)
  if number <= current - BUCKETS or number >= current + BUCKETS then return nil end
  local buckets, parts, size = read_buckets(window, text, time), {}, 0
  buckets[number] = (buckets[number] or 0) + amount
  for each, value in pairs(buckets) do
    parts[#parts + 1], size = string.format('%.0f:%.17g', each, value), size + math.abs(value)
  end
  if size == math.huge then return false end
  table.sort(parts)
  return table.concat(parts, ' ')
end
