-- @include add_event
-- @include clock
-- @include entity
-- @include read_state
-- @include marks
-- @include parse
-- @include seen
-- @include store_entity
-- @include text
-- @include touch
-- The event whose numbers stand behind `before`: its `numbers` by field, and its `id` where it has one. `timed` of the
-- fields are its time, which take_rows has read. Or nil and what is wrong with it.
local function read_event(arguments, before, fields, timed)
  local event = { numbers = {}, id = nil }
  for position = 1 + timed, #fields do
    local field, text = fields[position], arguments[before + position - timed]
    if field == '@event_id' then
      if text ~= '' and text ~= LEAVE then event.id = text end
    elseif text ~= LEAVE then
      event.numbers[field] = parse('float', text)
      if not event.numbers[field] then
        return nil, shown(field) .. ' of an event is a number, not ' .. shown(text)
      end
    end
  end
  return event
end

-- Count one event. Return the verdict; or nil and an error reply; or nil, nil, and the code and the reason of a
-- rejection.
local function record_event(key, declared, event, time)
  local entity, reply = load_entity(key, declared, read_state(key))
  if reply then return nil, reply end
  if entity.floor and entity.floor >= time then return 'S' end
  local seen = event.id and remember(redis.call('HMGET', key, '@seen')[1] or '', event.id)
  if seen == nil and event.id then return 'D' end
  local existed, given, words = entity.base ~= nil, {}, {}
  for slot, window in pairs(declared.windows) do
    local name, amount = declared.names[slot], not window.field and 1 or event.numbers[window.field]
    local buckets = amount and add_event(window, entity.values[slot], time, amount, now())
    if buckets == false then return nil, nil, 'BADTYPE', name .. ' would be beyond a float' end
    if buckets then
      given[slot] = math.max(time, time_of(entity, slot, name) or 0)
      entity.values[slot] = buckets
      words[#words + 1], words[#words + 2] = name, buckets
    end
  end
  if #words == 0 then return 'S' end
  if seen then words[#words + 1], words[#words + 2] = '@seen', seen end
  touch(entity, declared, given, time)
  if declared.ttl > 0 and entity.base + declared.ttl < now() then return 'S' end
  reply = store_entity(key, entity, declared, words)
  if reply then return nil, reply end
  return existed and 'A' or 'C'
end
