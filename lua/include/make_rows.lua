-- @include find_array
-- @include row
-- Complete the reply of get_features_batch by layout: make a row at each of `positions`, where none is stored that may
-- be handed on as it is. `layout` is theirs, and `most` as rationed has it, nil for any number. Return the reply, or an
-- error reply.
local function make_rows(keys, layout, reply, positions, most)
  local by_row, by_fields, wanted
  for _, position in ipairs(positions) do
    local key, stored = keys[2 + position], reply[position]
    local row = row_of_layout(stored, layout)
    if not row and not wanted then
      -- @include row_answer
      -- @include served_row
      -- @include wanted
      local failure
      wanted, failure = read_wanted(keys[2], { layout })
      if failure then return failure end
      by_row, by_fields = answer_by_layout, answer_by_fields
      if most then
        -- @include rationed
        by_row, by_fields = rationed(most, by_row, by_fields)
      end
    end
    if row then row = layout .. row
    else row = (find_array(stored, layout) and by_row or by_fields)(key, wanted) or false end
    if row and row ~= 0 and row.err then return row end -- no string has `err`
    reply[position] = row
  end
  return reply
end
