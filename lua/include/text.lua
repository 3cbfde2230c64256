-- @include strings
-- True when `text` is well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF).
local function is_utf8(text)
  if not find(text, '[\128-\255]') then return true end
  local position, length = 1, #text
  while position <= length do
    local lead = byte(text, position)
    local trail, low, high = 0, 128, 191 -- how many bytes follow, and the range of the first of them
    if lead >= 128 then
      if lead < 194 or lead > 244 then return false
      elseif lead < 224 then trail = 1
      elseif lead < 240 then
        trail = 2
        if lead == 224 then low = 160 elseif lead == 237 then high = 159 end
      else
        trail = 3
        if lead == 240 then low = 144 elseif lead == 244 then high = 143 end
      end
    end
    for offset = 1, trail do
      local following = byte(text, position + offset)
      if not following or following < low or following > high then return false end
      low, high = 128, 191
    end
    position = position + trail + 1
  end
  return true
end

-- `text` fit for an error message: short, one line, valid UTF-8.
local function shown(text)
  text = string.gsub(sub(text, 1, 64), '%c', ' ')
  if not is_utf8(text) then text = string.gsub(text, '[\128-\255]', '?') end
  return text
end
