-- @include clock
-- @include fields
-- @include find_array
-- @include row_from
-- @include values
-- The answer for a known entity to a read of the packed row, and of features that are named behind the layout; as
-- answer_by_names.
local function answer_by_layout(key, wanted)
  local layout, count = wanted.row_layout, #wanted.names
  local named, event_time, packed = cast_fields(key, wanted)
  local start, limit = find_array(packed, layout)
  local may_serve = start and not wanted.metadata and (limit == '' or now() <= tonumber(limit))
  if may_serve and not wanted.timed and not wanted.windows then -- the usual case: nothing depends on times
    local row = row_from(packed, start, layout)
    if count == 0 then return row, 0 end
    return { row, pack_values(named, wanted) }, count
  end
  if not wanted.answer then -- these functions are made once a call, where one is needed
    -- @include served_row
    wanted.answer = answer_served
  end
  return wanted.answer(key, wanted, named, event_time, packed, start, may_serve)
end
