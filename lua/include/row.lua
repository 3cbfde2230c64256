-- @include clock
-- @include find_array
-- @include strings
-- The packed array in a stored row that may be served as it is, or nil when there is none of this layout.
local function row_of_layout(stored, layout)
  local start, limit = find_array(stored, layout)
  if not start or (limit ~= '' and now() > tonumber(limit)) then return nil end
  return sub(stored, start)
end
