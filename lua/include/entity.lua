-- One entity as a write finds and leaves it. Slots are positions in the packed row; after them come the vectors that
-- are not in it.
--   values     slot → value, nil where there is none; a window's buckets as they are stored, true for an extra vector
--   base       its `@event_time`, the newest of its features' times; nil when there is none
--   times      feature → time, for those that differ from `base` and those that were removed
--   floor      when it was deleted, where it was; nothing that old comes back
--   deleted    whether nothing is left of it but that

-- The entity at `key`; `stored` are its `@event_time` and `@row` where they are known. Or nil and an error reply.
local function load_entity(key, declared, stored)
  stored = stored or redis.pcall('HMGET', key, '@event_time', '@row')
  if stored.err then return nil, stored end
  local entity = { base = tonumber(stored[1] or nil), values = {}, times = {} }
  if stored[2] == DELETED then
    entity.floor, entity.base, entity.deleted = entity.base, nil, true
    return entity
  end
  local packed = declared.plain and row_of_layout(stored[2], declared.layout)
  entity.times, entity.floor = times_in_row(stored[2] or nil)
  entity.values = packed and cmsgpack.unpack(packed) or cast_fields(key, declared)
  for position = 1, #declared.extras do
    local there = redis.call('HEXISTS', key, declared.extras[position]) == 1
    entity.values[#declared.names + position] = there or nil
  end
  return entity
end

-- When the feature in a slot came to be as it is, or nil when nothing is known of it.
local function time_of(entity, slot, name)
  return entity.times[name] or (entity.values[slot] ~= nil and entity.base) or entity.floor
end

local function name_of(declared, slot)
  return declared.names[slot] or declared.extras[slot - #declared.names]
end

-- The entity's packed row. It holds what a read would answer now, and until when it would.
local function pack_entity(entity, declared)
  local width, values, limit = #declared.names, entity.values, nil
  if not declared.plain then
    values = {}
    for slot = 1, width do
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
  end
  local groups, order = {}, {}
  for slot = 1, width + #declared.extras do
    local name = name_of(declared, slot)
    local time = entity.times[name]
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
  local header = ''
  if limit or entity.floor or #order > 0 then
    header = (limit and time_text(limit) or '') .. '|' .. (entity.floor and time_text(entity.floor) or '') .. '|'
      .. table.concat(order, ';') .. '|'
  end
  return declared.layout .. header .. pack_values(values, width, declared.vectors)
end

-- Store the entity: its row, its newest time, and the fields in `words` (name, text …) without those in `forgotten`.
-- Return an error reply where there is one; nothing has been written then.
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
