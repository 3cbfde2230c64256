-- Strict reading of stored or offered text. Writes and reads share it, so a value is either valid on both sides or
-- on neither.

local byte, find, huge = string.byte, string.find, math.huge

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
  text = string.gsub(string.sub(text, 1, 64), '%c', ' ')
  if not is_utf8(text) then text = string.gsub(text, '[\128-\255]', '?') end
  return text
end

-- The number of names that a caller announces, or nil when it is none or more than `most`.
local function parse_count(text, most)
  local count = text and find(text, '^%d+$') and tonumber(text)
  return count and count <= most and count or nil
end

-- How many numbers a value of `kind` has where it is a vector, float32[N]; else nil.
local function vector_length(kind)
  return string.sub(kind, 1, 8) == 'float32[' and tonumber(string.sub(kind, 9, -2)) or nil
end

-- True when one of the float32 numbers in `bytes` has `mark` as its fourth byte and the high bit set in its third.
local function has_exponent(bytes, mark)
  local position = find(bytes, mark, 4, true)
  while position do
    if position % 4 == 0 and byte(bytes, position - 1) >= 128 then return true end
    position = find(bytes, mark, position + 1, true)
  end
  return false
end

-- True when `bytes` are `count` little-endian float32 numbers, none of them NaN or infinite: these have all exponent
-- bits set, so that their fourth byte is 7F or FF. Plain finds skip the others at the speed of C.
local function is_vector(bytes, count)
  return #bytes == 4 * count and not has_exponent(bytes, '\127') and not has_exponent(bytes, '\255')
end

-- The value that `text` stands for under `kind`, or nil when it stands for none; so it always is under the kind of a
-- window, whose values come from events. An int beyond 2^53 stays text: Lua's only number is a double. A vector stays
-- bytes.
local function parse(kind, text)
  if kind == 'float' then
    -- A decimal number as JSON has it (fraction digits may be left out). tonumber alone takes '0x10', ' 12', '+5',
    -- 'nan' and '12\0 anything' too.
    local number = tonumber(text)
    if not number or not find(text, '^-?%d[%d.eE+-]*$') then return nil end
    local first, second, third = byte(text, 1, 3)
    if first == 45 then first, second = second, third end
    if first == 48 and second and second >= 48 and second <= 57 then return nil end
    if number == huge or number == -huge then return nil end
    return number
  elseif kind == 'int' then
    if text ~= '0' and not find(text, '^-?[1-9]%d*$') then return nil end
    local number = tonumber(text)
    if number > -9007199254740992 and number < 9007199254740992 then return number end
    local negative = byte(text, 1) == 45
    local digits = negative and string.sub(text, 2) or text
    local limit = negative and '9223372036854775808' or '9223372036854775807'
    if #digits > 19 or (#digits == 19 and digits > limit) then return nil end
    return text
  elseif kind == 'string' then
    if is_utf8(text) then return text end
    return nil
  elseif kind == 'bool' then
    if text == 'true' or text == '1' then return true end
    if text == 'false' or text == '0' then return false end
  else
    local count = vector_length(kind)
    if count and is_vector(text, count) then return text end
  end
  return nil
end
