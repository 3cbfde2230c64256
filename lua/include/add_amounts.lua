-- @include entity
-- @include increment
-- @include touch
-- Add amounts to an entity (entity.lua): `amounts` has name, amount, name, amount …, as text, behind `before`.
-- Return what store_entity takes, the new values, and the kinds of these; or nil, and the code and the reason of
-- what is wrong. Nothing is written here.
local function add_amounts(entity, declared, amounts, before, time)
  local slot_of = {}
  for slot = 1, #declared.names do slot_of[declared.names[slot]] = slot end
  local given, words, results, kinds = {}, {}, {}, {}
  for position = before + 1, #amounts, 2 do
    local name, offered = amounts[position], amounts[position + 1]
    local slot = slot_of[name]
    if not slot then
      -- @include text
      for extra = 1, #declared.extras do
        if declared.extras[extra] == name then
          return nil, 'BADTYPE', name .. ' is ' .. declared.others[extra] .. ' and cannot be incremented'
        end
      end
      return nil, 'UNDECLARED', shown(name) .. ' is not declared in the schema'
    end
    local stored = entity.values[slot]
    if stored == nil then stored = declared.defaults and declared.defaults[slot] or 0 end
    local value, text = increment(name, declared.kinds[slot], stored, offered)
    if not value then return nil, 'BADTYPE', text end
    given[slot] = math.max(time, time_of(entity, slot, name) or 0)
    entity.values[slot] = value
    words[#words + 1], words[#words + 2], results[#results + 1] = name, text, value
    kinds[#results] = declared.kinds[slot]
    declared.wide = declared.wide or value >= 2^32 or value < -2^31
  end
  touch(entity, declared, given, time)
  return words, results, kinds
end
