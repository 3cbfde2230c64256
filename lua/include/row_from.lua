-- @include row_format
-- @include strings
-- The packed row whose array starts at `start` in what is stored, without what may stand before the array.
local function row_from(stored, start, layout)
  return start == LAYOUT_BYTES + 1 and stored or layout .. sub(stored, start)
end
