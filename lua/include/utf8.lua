-- @include strings
-- True when `text` is well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF).
local function is_utf8(text)
  if not find(text, '[\128-\255]') then return true end -- ASCII alone
  local LEAST_TRAIL, LAST_TRAIL = 128, 191
  local LEAD_OF_2, LEAD_OF_3, LEAD_OF_4, LAST_LEAD = 194, 224, 240, 244 -- the least leads of 2, 3 and 4 bytes; the last
  local position, length = 1, #text
  while position <= length do
    local lead = byte(text, position)
    local trail, low, high = 0, LEAST_TRAIL, LAST_TRAIL -- how many bytes follow, and the range of the first of them
    if lead >= LEAST_TRAIL then
      if lead < LEAD_OF_2 or lead > LAST_LEAD then return false
      elseif lead < LEAD_OF_3 then trail = 1
      elseif lead < LEAD_OF_4 then
        trail = 2
        if lead == LEAD_OF_3 then low = 160 -- below are overlong forms
        elseif lead == 237 then high = 159 end -- above are surrogates
      else
        trail = 3
        if lead == LEAD_OF_4 then low = 144 -- below are overlong forms
        elseif lead == LAST_LEAD then high = 143 end -- above is what is beyond U+10FFFF
      end
    end
    for offset = 1, trail do
      local following = byte(text, position + offset)
      if not following or following < low or following > high then return false end
      low, high = LEAST_TRAIL, LAST_TRAIL
    end
    position = position + trail + 1
  end
  return true
end
