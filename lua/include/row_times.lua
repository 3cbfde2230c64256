-- @include row_format
-- The times in a stored row of any layout: feature → time where it is not `@event_time`.
local function times_in_row(stored)
  local times, groups = {}, string.match(stored or '', '^%d*|([^|]*)|', LAYOUT_BYTES + 1)
  for time, names in string.gmatch(groups or '', '(%d+)=([^;]+)') do
    for name in string.gmatch(names, '[^,]+') do times[name] = tonumber(time) end
  end
  return times
end
