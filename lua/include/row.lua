-- The packed row: the field `@row` holds the layout's digest (8 bytes), then the values of all declared features as
-- a msgpack array in declared order, cast when they were written. A read takes it as it is if it has the layout wanted.
local LAYOUT_BYTES = 8

-- The head of a msgpack array of `count` elements.
local function array_head(count)
  if count < 16 then return string.char(144 + count) end
  return string.char(220, math.floor(count / 256), count % 256)
end

-- The packed array in a stored row, or nil when there is none of this layout.
local function row_of_layout(stored, layout)
  if type(stored) == 'string' and string.sub(stored, 1, LAYOUT_BYTES) == layout then
    return string.sub(stored, LAYOUT_BYTES + 1)
  end
  return nil
end

-- The values of the features `names` in the hash at `key`, cast by `kinds`; nil where there is none. A key that is not
-- a hash has no features.
local function cast_fields(key, names, kinds)
  local row = redis.pcall('HMGET', key, unpack(names))
  if row.err then return {} end
  for position = 1, #names do
    local text = row[position]
    if text then row[position] = parse(kinds[position], text) else row[position] = nil end
  end
  return row
end

-- `values[1]` to `values[count]` as a msgpack array.
local function pack_values(values, count)
  return array_head(count) .. cmsgpack.pack(unpack(values, 1, count))
end
