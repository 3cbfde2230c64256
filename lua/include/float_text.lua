-- The shortest text that reads as the same float.
local function float_text(value)
  for digits = 15, 17 do
    local text = string.format('%.' .. digits .. 'g', value)
    if tonumber(text) == value then return text end
  end
end
