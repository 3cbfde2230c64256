-- @include row_format
-- @include strings
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
