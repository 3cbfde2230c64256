-- The packed row: the field `@row` holds
--   the layout's digest, 8 bytes;
--   until|floor|older|  only where one of the three is not empty: the time up to which the row may be served as it is;
--                       the time of the entity's deletion, before it came back; and the times of the features that are
--                       older than `@event_time`, or were removed, as time=name,name;time=name;
--   the values of its features in declared order as a msgpack array, cast when they were written.
-- A deleted entity has a `@row` that says so, and the time of its deletion as `@event_time`.
local LAYOUT_BYTES = 8

-- The head of a msgpack array of `count` elements.
local function array_head(count)
  if count < 16 then return string.char(144 + count) end
  return string.char(220, math.floor(count / 256), count % 256)
end

-- The packed array in a stored row that may be served as it is, or nil when there is none of this layout.
local function row_of_layout(stored, layout)
  if type(stored) ~= 'string' or string.sub(stored, 1, LAYOUT_BYTES) ~= layout then return nil end
  if byte(stored, LAYOUT_BYTES + 1) >= 144 then return string.sub(stored, LAYOUT_BYTES + 1) end
  local limit, start = string.match(stored, '^(%d*)|%d*|[^|]*|()', LAYOUT_BYTES + 1)
  if not start or (limit ~= '' and now() > tonumber(limit)) then return nil end
  return string.sub(stored, start)
end

-- The times in a stored row of any layout: feature → time where it is not `@event_time`, and the deletion's time.
local function times_in_row(stored)
  local floor, groups = string.match(stored or '', '^%d*|(%d*)|([^|]*)|', LAYOUT_BYTES + 1)
  if not floor or (floor == '' and groups == '') then return {}, nil end
  local times = {}
  for time, names in string.gmatch(groups, '(%d+)=([^;]+)') do
    for name in string.gmatch(names, '[^,]+') do times[name] = tonumber(time) end
  end
  return times, tonumber(floor)
end

-- The head of `size` bytes in msgpack.
local function bytes_head(size)
  if size < 256 then return string.char(196, size) end
  return string.char(197, math.floor(size / 256), size % 256)
end

-- `values[1]` to `values[count]` as a msgpack array; those at the positions in `vectors` are bytes. With `parts`, what
-- comes before the last vector is appended there instead: to copy vectors is what costs.
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

-- The values of the selected features in the hash at `key`, cast; nil where there is none, a window's as it is stored.
-- A key that is not a hash has no features. Also `@event_time` and `@row`, where the selection is timed.
local function cast_fields(key, selection)
  local names, count = selection.names, #selection.names
  if selection.timed then names[count + 1], names[count + 2] = '@event_time', '@row' end
  local row = redis.pcall('HMGET', key, unpack(names))
  names[count + 1], names[count + 2] = nil, nil
  if row.err then return {} end
  local event_time, packed = row[count + 1], row[count + 2]
  row[count + 1], row[count + 2] = nil, nil
  local kinds, windows, vectors = selection.kinds, selection.windows, selection.vectors
  for position = 1, count do
    local text, length = row[position], vectors and vectors[position]
    if not text or (length and not is_vector(text, length)) then row[position] = nil
    elseif not length and (not windows or not windows[position]) then row[position] = parse(kinds[position], text) end
  end
  return row, event_time or nil, packed or nil
end
