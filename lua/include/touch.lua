-- Set the event times of features that a write gives or removes: `slots` has the time of each, or true for `time`.
-- `base` becomes the newest time of all features; `times` keeps those that differ from it.
local function touch(entity, declared, slots, time)
  local names, extras, width = declared.names, declared.extras, #declared.names
  local values, before, times, base = entity.values, entity.times, {}, nil
  for slot = 1, width + #extras do
    local name, given = names[slot] or extras[slot - width], slots[slot]
    if given == true then given = time end
    local known = given or before[name] or (values[slot] ~= nil and entity.base) or nil
    times[name] = known
    if known and (not base or known > base) then base = known end
  end
  for slot = 1, width + #extras do
    local name = names[slot] or extras[slot - width]
    if times[name] == base and values[slot] ~= nil then times[name] = nil end
  end
  entity.base, entity.times = base or entity.base or time, times
end
