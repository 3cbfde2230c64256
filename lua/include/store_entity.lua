-- @include clock
-- @include entity
-- @include time_text
-- @include values
-- What a read would answer now for each slot of the packed row; and the time up to which it would, nil for ever.
local function served_values(entity, declared)
  if declared.plain then return entity.values, nil end
  -- @include window
  local values, limit = {}, nil
  for slot = 1, #declared.names do
    local value, window, changes = entity.values[slot], declared.windows and declared.windows[slot], nil
    local most = declared.limits and declared.limits[slot]
    if window then value, changes = read_window(window, value, now())
    elseif value == nil then value = declared.defaults and declared.defaults[slot]
    elseif most and entity.base then
      changes = time_of(entity, slot, declared.names[slot]) + most
      if changes < now() then value, changes = nil, nil end
    end
    if changes and window then changes = changes - 1 end
    if changes and (not limit or changes < limit) then limit = changes end
    values[slot] = value
  end
  return values, limit
end

-- The event times that differ from the entity's, as they stand in the packed row: time=name,name;time=name.
local function older_times(entity, declared)
  local groups, order, times = {}, {}, entity.times
  if not next(times) then return '' end
  local names, extras, width = declared.names, declared.extras, #declared.names
  for slot = 1, width + #extras do
    local name = names[slot] or extras[slot - width]
    local time = times[name]
    if time then
      if not groups[time] then
        groups[time] = {}
        order[#order + 1] = time
      end
      table.insert(groups[time], name)
    end
  end
  for position = 1, #order do
    order[position] = time_text(order[position]) .. '=' .. table.concat(groups[order[position]], ',')
  end
  return table.concat(order, ';')
end

-- The entity's packed row (row_format.lua).
local function pack_entity(entity, declared)
  local values, limit = served_values(entity, declared)
  local older, header = older_times(entity, declared), ''
  if limit or older ~= '' then header = (limit and time_text(limit) or '') .. '|' .. older .. '|' end
  return declared.layout .. header .. pack_values(values, declared)
end

-- Store the entity: its row, its newest time, and the fields in `words` (name, text …); remove those in `forgotten`.
-- Return an error reply if there is one; nothing has been written then.
local function store_entity(key, entity, declared, words, forgotten)
  local count = #words
  words[count + 1], words[count + 2] = '@row', pack_entity(entity, declared)
  if entity.base then words[count + 3], words[count + 4] = '@event_time', time_text(entity.base) end
  local reply = redis.pcall('HSET', key, unpack(words))
  if type(reply) == 'table' then return reply end
  if forgotten and forgotten[1] then redis.call('HDEL', key, unpack(forgotten)) end
  if declared.ttl > 0 and entity.base then redis.call('PEXPIREAT', key, time_text(entity.base + declared.ttl))
  elseif declared.ttl_ended or entity.deleted then redis.call('PERSIST', key) end
  return nil
end
