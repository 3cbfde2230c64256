-- The name of the feature in a slot of an entity (entity.lua).
local function name_of(declared, slot)
  return declared.names[slot] or declared.extras[slot - #declared.names]
end
