-- Redis's own clock in ms since 1970; one reading serves the whole call.
local clock

local function now()
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return clock
end
