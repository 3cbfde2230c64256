-- @include strings
-- Whether a text comes before another one by their bytes. Lua's `<` goes by the server's locale.
local function is_before(one, other)
  local position = 1
  while position <= #one and byte(one, position) == byte(other, position) do position = position + 1 end
  return (byte(one, position) or -1) < (byte(other, position) or -1)
end
