-- The head of a msgpack array of `count` elements.
local function array_head(count)
  if count < 16 then return string.char(144 + count) end
  return string.char(220, math.floor(count / 256), count % 256)
end

-- The features `names` of the hash at `key`, cast by `kinds` and packed one after the other without an array head.
-- A key that is not a hash has no features.
local function pack_row(key, names, kinds)
  local row, count = redis.pcall('HMGET', key, unpack(names)), #names
  if row.err then row = {} end
  for position = 1, count do
    local text = row[position]
    if text then row[position] = parse(kinds[position], text) else row[position] = nil end
  end
  return cmsgpack.pack(unpack(row, 1, count))
end
