-- @include entity
-- @include read_state
-- @include marks
-- @include row
-- @include store_entity
-- @include touch
-- Whether a text, with its value and its time, changes what the entity has in a slot.
local function changes(key, entity, declared, slot, name, text, value, time)
  if time_of(entity, slot, name) ~= time then return true end
  if text == FORGET then return entity.values[slot] ~= nil end
  if slot > #declared.names then return redis.call('HMGET', key, name)[1] ~= text end
  return entity.values[slot] ~= value
end

-- Write the row in hand (columns.lua) beside what is stored, feature by feature. Return the verdict; or nil and an
-- error reply; or nil, nil, and the code and the reason of its rejection.
local function merge(key, declared, columns, stored, time, checks)
  local entity, reply = load_entity(key, declared, stored or read_state(key))
  if reply then return nil, reply end
  local names, slots, fields, values = columns.names, columns.slots, columns.fields, columns.values
  local existed, stale, applied, changed = entity.base ~= nil, 0, 0, false
  local buried = checks and entity.floor and time <= entity.floor -- what a deletion took away stays away
  local given, words, forgotten = {}, {}, {}
  for column = 1, #names do
    local text, slot, name = fields[4 + 2 * column], slots[column], names[column]
    local known, value = checks and time_of(entity, slot, name), values[slot]
    if text ~= LEAVE and (buried or (known and known > time)) then stale = stale + 1
    elseif text ~= LEAVE then
      applied, given[slot] = applied + 1, true
      changed = changed or changes(key, entity, declared, slot, name, text, value, time)
      if text == FORGET then forgotten[#forgotten + 1], entity.values[slot] = name, nil
      else
        words[#words + 1], words[#words + 2] = name, text
        entity.values[slot] = slot > #declared.names or value
      end
    end
  end
  if applied == 0 and (stale > 0 or (entity.deleted and buried)) then return 'S' end
  local repeated = existed and not changed and checks
  -- A row of another layout is stored again, since the schema's ttl may be another too.
  if repeated and row_of_layout(stored[2], declared.layout) then return 'D' end
  if forgotten[1] then
    -- @include permissions
    if refusal(key, 'HDEL', key, '@') then return nil, nil, 'NOPERM', 'to remove features takes HDEL' end
  end
  touch(entity, declared, given, time)
  reply = store_entity(key, entity, declared, words, forgotten)
  if reply then return nil, reply end
  return (repeated and 'D') or (stale > 0 and 'P') or (existed and 'A') or 'C'
end
