-- @include strings
-- @include clock
-- @include row_format
-- Where the array starts in a stored row of this layout, and up to when it may be served as it is, '' for ever; nil
-- where no such row is stored.
local function find_array(stored, layout)
  local start = LAYOUT_BYTES + 1
  if type(stored) ~= 'string' or sub(stored, 1, LAYOUT_BYTES) ~= layout then return nil end
  if find(stored, ARRAY, start) then return start, '' end
  local limit, behind = string.match(stored, '^(%d*)|[^|]*|()', start)
  if not behind or not find(stored, ARRAY, behind) then return nil end
  return behind, limit
end

-- The packed row whose array starts at `start` in what is stored, without what may stand before the array.
local function row_from(stored, start, layout)
  return start == LAYOUT_BYTES + 1 and stored or layout .. sub(stored, start)
end

-- The packed array in a stored row that may be served as it is, or nil when there is none of this layout.
local function row_of_layout(stored, layout)
  local start, limit = find_array(stored, layout)
  if not start or (limit ~= '' and now() > tonumber(limit)) then return nil end
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
