-- @include strings
-- @include clock
-- @include row_format
-- The packed array in a stored row that may be served as it is, or nil when there is none of this layout.
local function row_of_layout(stored, layout)
  if type(stored) ~= 'string' or sub(stored, 1, LAYOUT_BYTES) ~= layout then return nil end
  local start = LAYOUT_BYTES + 1
  if not find(stored, ARRAY, start) then
    local limit
    limit, start = string.match(stored, '^(%d*)|[^|]*|()', start)
    if not start or (limit ~= '' and now() > tonumber(limit)) or not find(stored, ARRAY, start) then return nil end
  end
  return sub(stored, start)
end

-- The times in a stored row of any layout: feature → time where it is not `@event_time`.
local function times_in_row(stored)
  local times, groups = {}, string.match(stored or '', '^%d*|([^|]*)|', LAYOUT_BYTES + 1)
  for time, names in string.gmatch(groups or '', '(%d+)=([^;]+)') do
    for name in string.gmatch(names, '[^,]+') do times[name] = tonumber(time) end
  end
  return times
end
