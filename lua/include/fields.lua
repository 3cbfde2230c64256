-- @include parse
-- The values of the selected features in the hash at `key`, cast; nil where there is none, a window's as it is stored.
-- A key that is not a hash has no features. Also `@row` and `@event_time`, where the selection wants them.
local function cast_fields(key, selection)
  local names, count = selection.names, #selection.names
  if selection.timed then names[count + 1], names[count + 2] = '@row', '@event_time'
  elseif selection.row_layout then names[count + 1] = '@row' end
  local row = redis.pcall('HMGET', key, unpack(names))
  names[count + 1], names[count + 2] = nil, nil
  if row.err then return {} end
  local packed, event_time = row[count + 1], row[count + 2]
  row[count + 1], row[count + 2] = nil, nil
  local kinds, windows, vectors, is_vector = selection.kinds, selection.windows, selection.vectors, selection.is_vector
  for position = 1, count do
    local text, length = row[position], vectors and vectors[position]
    if not text then row[position] = nil
    elseif length then
      if not is_vector(text, length) then row[position] = nil end
    elseif not windows or not windows[position] then
      local value, wide = parse(kinds[position], text)
      row[position] = value
      if wide then selection.wide = true end
    end
  end
  return row, event_time or nil, packed or nil
end
