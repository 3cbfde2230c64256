-- @include float_text
-- @include parse
-- @include text
-- What a number becomes by an increment, `offered` as text, and that as text; or nil and what is wrong.
local function increment(name, kind, before, offered)
  if kind ~= 'int' and kind ~= 'float' then return nil, name .. ' is ' .. kind .. ' and cannot be incremented' end
  local amount = parse(kind, offered)
  if amount == offered then return nil, name .. ' cannot be incremented by an int of 2^53 or more' end
  if type(amount) ~= 'number' then return nil, name .. ' is ' .. kind .. ', not ' .. shown(offered) end
  local value = type(before) == 'number' and before + amount + 0 -- no -0
  if not value or math.abs(value) == math.huge or (kind == 'int' and math.abs(value) >= 2^53) then
    return nil, name .. ' would be beyond what can be incremented'
  end
  return value, kind == 'int' and string.format('%.0f', value) or float_text(value)
end
