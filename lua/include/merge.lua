-- @include entity
-- @include marks
-- @include row
-- @include store_entity
-- @include touch
-- Return a function that writes a row beside what is stored, feature by feature: `merge(key, stored, time, checks)`,
-- from what the cells' reader has put into `fields` and `values`. It returns the verdict, or nil and an error reply.
local function merger(declared, columns, fields, values)
  local names, slots, width = columns.names, columns.slots, #declared.names

  -- Whether a text changes what the entity has in a slot.
  local function changes(key, entity, column, text, time, known)
    local slot = slots[column]
    if slot > width and known == time and text ~= FORGET then return redis.call('HGET', key, names[column]) ~= text end
    if text == FORGET then return known ~= time or entity.values[slot] ~= nil end
    return known ~= time or entity.values[slot] ~= values[slot]
  end

  return function(key, stored, time, checks)
    local entity, reply = load_entity(key, declared, stored)
    if reply then return nil, reply end
    local existed, stale, applied, changed = entity.base ~= nil, 0, 0, false
    local buried = checks and entity.floor and time <= entity.floor -- what a deletion took away stays away
    local given, words, forgotten = {}, {}, {}
    for column = 1, #names do
      local text, slot, name = fields[4 + 2 * column], slots[column], names[column]
      local known = text ~= LEAVE and time_of(entity, slot, name)
      if text ~= LEAVE and (buried or (checks and known and known > time)) then stale = stale + 1
      elseif text ~= LEAVE then
        applied, given[slot] = applied + 1, true
        changed = changed or changes(key, entity, column, text, time, known)
        if text == FORGET then forgotten[#forgotten + 1], entity.values[slot] = name, nil
        else
          words[#words + 1], words[#words + 2] = name, text
          entity.values[slot] = slot > width or values[slot]
        end
      end
    end
    if applied == 0 and (stale > 0 or (entity.deleted and buried)) then return 'S' end
    local repeated = existed and not changed and checks
    -- A row of another layout is stored again, since the schema's ttl may be another too.
    if repeated and row_of_layout(stored[2], declared.layout) then return 'D' end
    touch(entity, declared, given, time)
    reply = store_entity(key, entity, declared, words, forgotten)
    if reply then return nil, reply end
    return (repeated and 'D') or (stale > 0 and 'P') or (existed and 'A') or 'C'
  end
end
