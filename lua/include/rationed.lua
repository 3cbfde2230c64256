-- Functions that answer for the entity at a key as those given do (answer.lua, row_answer.lua), but by 0 once the next
-- answer would make more than `most` values in all: it is taken to make as many as the last one did. The first one is
-- always given.
local function rationed(most, one, other)
  local left, last = most, 0
  local function bounded(answer)
    return function(key, wanted)
      if last > left then return 0 end
      local reply, made = answer(key, wanted)
      if made > 0 then left, last = left - made, made end
      return reply
    end
  end
  return bounded(one), other and bounded(other)
end
