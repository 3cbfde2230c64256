-- @include name_of
-- Set the event times of features that a write gives or removes: `slots` has the time of each, or true for `time`.
-- `base` becomes the newest time of all features; `times` keeps those that differ from it.
local function touch(entity, declared, slots, time)
  local times, base, count = {}, nil, #declared.names + #declared.extras
  for slot = 1, count do
    local name = name_of(declared, slot)
    local given = slots[slot] == true and time or slots[slot]
    local known = given or entity.times[name] or (entity.values[slot] ~= nil and entity.base) or nil
    times[name] = known
    if known and (not base or known > base) then base = known end
  end
  for slot = 1, count do
    local name = name_of(declared, slot)
    if times[name] == base and entity.values[slot] ~= nil then times[name] = nil end
  end
  entity.base, entity.times = base or entity.base or time, times
end
