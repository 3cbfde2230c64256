-- @include row
-- @include row_answer
-- @include wanted
-- Complete the reply of get_features_batch by layout: make a row at each of `positions`, where none is stored that may
-- be handed on as it is. `layout` is theirs, and `most` as rationed has it, nil for any number. Return the reply, or an
-- error reply.
local function make_rows(keys, layout, reply, positions, most)
  local answer, wanted = answer_by_layout, nil
  for _, position in ipairs(positions) do
    local row = row_of_layout(reply[position], layout)
    if not row and not wanted then
      local failure
      wanted, failure = read_wanted(keys[2], { layout })
      if failure then return failure end
      if most then
        -- @include rationed
        answer = rationed(answer, wanted, most)
      end
    end
    row = row and layout .. row or answer(keys[2 + position], wanted) or false
    if row and row ~= 0 and row.err then return row end -- no string has `err`
    reply[position] = row
  end
  return reply
end
