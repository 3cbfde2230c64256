-- @include strings
-- `text` fit for an error message: short, one line, valid UTF-8.
local function shown(text)
  -- @include utf8
  text = string.gsub(sub(text, 1, 64), '%c', ' ')
  if not is_utf8(text) then text = string.gsub(text, '[\128-\255]', '?') end
  return text
end
