-- @include array_head
local NIL = '\192' -- as msgpack has it

-- The values of a selection as a msgpack array, behind its digest if it has one. With `parts`, the array is not joined,
-- since to copy vectors costs: its pieces are appended to `parts`, and the last is returned.
local function pack_values(values, selection, parts)
  local kinds, vectors, wide, heads = selection.kinds, selection.vectors, selection.wide, selection.heads
  local count = #kinds
  local head = array_head(count)
  if selection.digest then head = selection.digest .. head end
  if count == 0 then return head end
  if not vectors and not wide then return head .. cmsgpack.pack(unpack(values, 1, count)) end
  if count == 1 and heads and values[1] then -- one vector alone, as is often read
    if not parts then return head .. heads[1] .. values[1] end
    parts[#parts + 1] = head .. heads[1]
    return values[1]
  end
  local pieces, first, pack_alone = parts or {}, 1, nil
  if wide then
    -- @include wide
    pack_alone = pack_wide
  end
  for position = 1, count do
    local value, alone = values[position], nil
    if vectors and vectors[position] then alone = value
    elseif wide and value ~= nil then alone = pack_alone(kinds[position], value) end
    if alone then
      if first < position then head = head .. cmsgpack.pack(unpack(values, first, position - 1)) end
      if alone == value then head = head .. heads[position] end
      pieces[#pieces + 1], pieces[#pieces + 2] = head, alone
      head, first = '', position + 1
    end
  end
  if first <= count then pieces[#pieces + 1] = head .. cmsgpack.pack(unpack(values, first, count)) end
  return parts and table.remove(pieces) or table.concat(pieces)
end
