-- @include strings
-- How many numbers a value of `kind` has where it is a vector, float32[N]; else nil.
local function vector_length(kind)
  return sub(kind, 1, 8) == 'float32[' and tonumber(sub(kind, 9, -2)) or nil
end
