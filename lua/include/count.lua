-- The number of words that a caller announces, or nil where `text` is no number or more than `most`.
local function parse_count(text, most)
  local count = text and string.find(text, '^%d+$') and tonumber(text)
  return count and count <= most and count or nil
end
