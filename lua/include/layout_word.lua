-- @include bytes
-- @include strings
-- The layout that `word` names as '@' .. layout, or nil.
local function layout_named(word)
  if word and byte(word) == AT_SIGN and word ~= '@event_time' then return sub(word, 2) end
  return nil
end
