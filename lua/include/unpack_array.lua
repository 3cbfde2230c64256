-- @include array_head
-- @include strings
-- What unpack_limit returns as a table; nil where these are not the `count` values at the end of what was unpacked.
local function last_values(count, behind, ...)
  return behind == -1 and select('#', ...) == count and { ... } or nil
end

-- The values of an array with vectors among them, which cmsgpack does not know; `start` is behind its head.
local function unpack_with_vectors(packed, start, whole)
  local NIL_BYTE = 192
  local vectors, heads, count, values, slot = whole.vectors, whole.heads, #whole.kinds, {}, 1
  while slot <= count do
    if not vectors[slot] then
      local last = slot
      while last < count and not vectors[last + 1] do last = last + 1 end
      local run = { cmsgpack.unpack_limit(packed, last - slot + 1, start - 1) }
      for position = slot, last do values[position] = run[2 + position - slot] end
      slot, start = last + 1, run[1] == -1 and #packed + 1 or run[1] + 1
    elseif byte(packed, start) == NIL_BYTE then slot, start = slot + 1, start + 1
    else
      local first = start + #heads[slot]
      if sub(packed, start, first - 1) ~= heads[slot] then return nil end
      start = first + 4 * vectors[slot]
      values[slot], slot = sub(packed, first, start - 1), slot + 1
    end
  end
  return start == #packed + 1 and values or nil
end

-- The values in the array that starts there in a stored row, nil where it is not of these features. An error is raised
-- where it is no msgpack.
local function unpack_array(packed, start, whole)
  local count = #whole.kinds
  local head = array_head(count)
  local first = start + #head
  if sub(packed, start, first - 1) ~= head then return nil end
  if whole.vectors then return unpack_with_vectors(packed, first, whole) end
  return last_values(count, cmsgpack.unpack_limit(packed, count, first - 1))
end
