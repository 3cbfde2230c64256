-- Redis's own clock in ms since 1970. One reading serves the whole call, and no other: an include stands inside the
-- script's function, so that its locals are made anew for each call.
local clock

local function now()
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return clock
end
