-- A time, in ms since 1970, as it is stored.
local function time_text(time) return string.format('%.0f', time) end
