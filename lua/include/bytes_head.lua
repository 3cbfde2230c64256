-- The head of `size` bytes in msgpack.
local function bytes_head(size)
  local BIN_8, BIN_16 = 196, 197
  if size < 256 then return string.char(BIN_8, size) end
  return string.char(BIN_16, math.floor(size / 256), size % 256)
end
