-- @include answer
-- @include row
-- @include wanted
-- Complete the reply of get_features_batch by layout: make a row at each of `positions`, where none is stored that may
-- be handed on as it is. `layout` is theirs. Return the reply, or an error reply.
local function make_rows(keys, layout, reply, positions)
  local selection
  for _, position in ipairs(positions) do
    local row = row_of_layout(reply[position], layout)
    if not row and not selection then
      local failure
      selection, failure = read_wanted(keys[2], { layout })
      if failure then return failure end
    end
    reply[position] = row and layout .. row or answer_of(keys[2 + position], selection) or false
  end
  return reply
end
