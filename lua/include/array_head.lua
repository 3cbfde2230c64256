-- The head of a msgpack array of `count` elements.
local function array_head(count)
  local EMPTY_ARRAY, ARRAY_16 = 144, 220
  if count < 16 then return string.char(EMPTY_ARRAY + count) end
  return string.char(ARRAY_16, math.floor(count / 256), count % 256)
end
