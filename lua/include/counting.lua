-- @include add_amounts
-- @include clock
-- @include entity
-- @include event
-- @include marks
-- @include read_state
-- @include store_entity
-- Count one entry, whose words stand behind `before`, for the names behind `skipped` of `names`. Return what `write` of
-- take_rows does (rows.lua).
local function increment_entry(key, declared, words, before, names, skipped, time)
  local amounts = {}
  for position = skipped + 1, #names do
    local amount = words[before + position - skipped]
    if amount ~= LEAVE then amounts[#amounts + 1], amounts[#amounts + 2] = names[position], amount end
  end
  if #amounts == 0 then return nil, nil, 'BADARGS', 'it names nothing to add to' end
  local entity, reply = load_entity(key, declared, read_state(key))
  if reply then return nil, reply end
  if entity.floor and entity.floor >= time then return 'S' end
  local existed = entity.base ~= nil
  local changed, code, reason = add_amounts(entity, declared, amounts, 0, time)
  if not changed then return nil, nil, code, reason end
  if declared.ttl > 0 and entity.base + declared.ttl < now() then return 'S' end
  reply = store_entity(key, entity, declared, changed)
  if reply then return nil, reply end
  return existed and 'A' or 'C'
end

local function record_entry(key, declared, words, before, names, skipped, time)
  local event, reason = read_event(words, before, names, skipped)
  if not event then return nil, nil, 'BADTYPE', reason end
  return record_event(key, declared, event, time)
end
