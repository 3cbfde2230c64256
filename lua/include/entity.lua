-- @include fields
-- @include row
-- @include row_format
-- One entity as a write finds and leaves it. Slots are positions in the packed row; after them come the vectors that
-- are not in it.
--   values     slot → value, nil where there is none; a window's buckets as they are stored, true for an extra vector
--   base       its `@event_time`, the newest of its features' times; nil when there is none
--   times      feature → time, for those that differ from `base` and those that were removed
--   floor      when it was deleted, if it was: no value of that time or before comes back
--   deleted    true if there is a tombstone and nothing else

-- The entity at `key`. `stored` has its `@event_time` and `@row`, if they were read already. Or nil and an error reply.
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

-- The event time of what is known of the feature in a slot: its value, its removal, or the entity's deletion; else nil.
local function time_of(entity, slot, name)
  return entity.times[name] or (entity.values[slot] ~= nil and entity.base) or entity.floor
end
