-- What answers for the entity at a key as `answer` does (answer.lua, row_answer.lua), but by 0 once the next one would
-- make more than `most` values in all: it is taken to make as many as the last one did. The first is always answered.
local function rationed(answer, wanted, most)
  local left, last = most, 0
  return function(key)
    if last > left then return 0 end
    local reply, made = answer(key, wanted)
    if made > 0 then left, last = left - made, made end
    return reply
  end
end
