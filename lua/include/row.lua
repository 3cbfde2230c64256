-- @include strings
-- @include clock
-- @include row_format
-- The packed array in a stored row that may be served as it is, or nil when there is none of this layout.
local function row_of_layout(stored, layout)
  if type(stored) ~= 'string' or sub(stored, 1, LAYOUT_BYTES) ~= layout then return nil end
  if byte(stored, LAYOUT_BYTES + 1) >= LEAST_ARRAY then return sub(stored, LAYOUT_BYTES + 1) end
  local limit, start = string.match(stored, '^(%d*)|%d*|[^|]*|()', LAYOUT_BYTES + 1)
  if not start or (limit ~= '' and now() > tonumber(limit)) then return nil end
  return sub(stored, start)
end

-- The times in a stored row of any layout: feature → time where it is not `@event_time`, and the deletion's time.
local function times_in_row(stored)
  local floor, groups = string.match(stored or '', '^%d*|(%d*)|([^|]*)|', LAYOUT_BYTES + 1)
  if not floor or (floor == '' and groups == '') then return {}, nil end
  local times = {}
  for time, names in string.gmatch(groups, '(%d+)=([^;]+)') do
    for name in string.gmatch(names, '[^,]+') do times[name] = tonumber(time) end
  end
  return times, tonumber(floor)
end
