-- @include row_format
local NIL = '\192' -- as msgpack has it

-- The head of a msgpack array of `count` elements.
local function array_head(count)
  if count < 16 then return string.char(LEAST_ARRAY + count) end
  local ARRAY_16 = 220
  return string.char(ARRAY_16, math.floor(count / 256), count % 256)
end

-- The head of `size` bytes in msgpack.
local function bytes_head(size)
  local BIN_8, BIN_16 = 196, 197
  if size < 256 then return string.char(BIN_8, size) end
  return string.char(BIN_16, math.floor(size / 256), size % 256)
end

-- `values[1]` to `values[count]` as a msgpack array; those at the positions in `vectors` are bytes. With `parts`, the
-- array is not joined, since to copy vectors costs: its pieces are appended to `parts`, and the last is returned.
local function pack_values(values, count, vectors, parts)
  if count == 0 then return array_head(0) end
  if not vectors then return array_head(count) .. cmsgpack.pack(unpack(values, 1, count)) end
  local pieces, head, first = parts or {}, array_head(count), 1
  for position = 1, count do
    local value = vectors[position] and values[position]
    if value then
      if first < position then head = head .. cmsgpack.pack(unpack(values, first, position - 1)) end
      pieces[#pieces + 1] = head .. bytes_head(#value)
      pieces[#pieces + 1] = value
      head, first = '', position + 1
    end
  end
  if first <= count then pieces[#pieces + 1] = head .. cmsgpack.pack(unpack(values, first, count)) end
  return parts and table.remove(pieces) or table.concat(pieces)
end
