-- @include fields
-- @include read_state
-- @include row
-- @include row_times
-- @include row_format
-- @include strings
-- @include array_head
-- One entity as a write finds and leaves it. Slots are positions in the packed row; after them come the vectors that
-- are not in it.
--   values     slot → value, nil where there is none; a window's buckets as they are stored, true for an extra vector
--   base       its `@event_time`, the newest of its features' times; nil when there is none
--   times      feature → time, for those that differ from `base` and those that were removed
--   floor      when it was last deleted, if it was: no value of that time or before comes back
--   deleted    true if there is a tombstone and nothing else

-- The values in a packed array; nil where they are to be made of the fields: ints from 2^53 on are not exact in Lua.
local function unpack_row(packed, declared)
  local kinds, numbers, values = declared.kinds, declared.numbers, cmsgpack.unpack(packed)
  local head = array_head(#kinds)
  if sub(packed, 1, #head) ~= head then return nil end
  if not numbers then
    numbers = {}
    for slot = 1, #kinds do
      if kinds[slot] == 'float' or kinds[slot] == 'int' then numbers[#numbers + 1] = slot end
    end
    declared.numbers = numbers
  end
  for position = 1, #numbers do
    local slot = numbers[position]
    local value = values[slot]
    if value and (value >= 2^32 or value < -2^31) then
      if kinds[slot] == 'int' and (value >= 2^53 or value <= -2^53) then return nil end
      declared.wide = true
    end
  end
  return values
end

-- The entity at `key`, whose state was read. Or nil and an error reply.
local function load_entity(key, declared, state)
  if state.err then return nil, state end
  local entity = { base = stored_time(state[1]), floor = stored_time(state[3]), values = {}, times = {} }
  if state[2] == DELETED then
    entity.floor, entity.base, entity.deleted = entity.floor or entity.base, nil, true
    return entity
  end
  local packed = declared.plain and row_of_layout(state[2], declared.layout)
  entity.times = times_in_row(state[2])
  local fine, values = false, nil
  if packed then fine, values = pcall(unpack_row, packed, declared) end -- something else may have written it
  entity.values = fine and values or cast_fields(key, declared)
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
