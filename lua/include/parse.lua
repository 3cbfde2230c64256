-- @include strings
-- The value that `text` stands for under `kind`, or nil if it is invalid. Writes and reads share this, so a value is
-- valid on both sides or on neither. An int beyond 2^53 stays text, since Lua's only number is a double; a vector stays
-- bytes. Kinds of windows always give nil: only record_events writes them. For a number that is wide, also true.
local function parse(kind, text)
  if kind == 'float' then
    -- A decimal number as JSON has it (fraction digits may be left out). tonumber alone takes '0x10', ' 12', '+5',
    -- 'nan', '007' and '12\0 anything' too.
    local number = tonumber(text)
    local decimal = number and (find(text, '^-?[1-9][%d.eE+-]*$') or find(text, '^-?0[.eE][%d.eE+-]*$'))
    if not decimal and text ~= '0' and text ~= '-0' then return nil end
    if number == math.huge or number == -math.huge then return nil end
    return number, number >= 2^32 or number < -2^31
  elseif kind == 'int' then
    if text ~= '0' and not find(text, '^-?[1-9]%d*$') then return nil end
    local number = tonumber(text)
    if number > -2^53 and number < 2^53 then return number end
    local negative = sub(text, 1, 1) == '-'
    local digits = negative and sub(text, 2) or text
    local limit = negative and '9223372036854775808' or '9223372036854775807'
    if #digits > 19 or (#digits == 19 and digits > limit) then return nil end
    return text, true
  elseif kind == 'string' then
    if not find(text, '[\128-\255]') then return text end -- ASCII alone
    -- @include utf8
    return is_utf8(text) and text or nil
  elseif kind == 'bool' then
    if text == 'true' or text == '1' then return true end
    if text == 'false' or text == '0' then return false end
  else
    -- @include kinds
    -- @include vector
    local count = vector_length(kind)
    if count and is_vector(text, count) then return text end
  end
  return nil
end
