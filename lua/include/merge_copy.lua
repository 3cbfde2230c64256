-- @include entity
-- @include parse
-- @include read_state
-- @include row_format
-- @include row_times
-- @include store_entity
-- @include time_text
-- @include touch
-- The entity (entity.lua) whose fields stand in `arguments` from `first` to `last`; and these, name → text.
local function given_entity(declared, arguments, first, last)
  local fields = {}
  for position = first, last, 2 do fields[arguments[position]] = arguments[position + 1] end
  local given = {
    base = stored_time(fields['@event_time']), floor = stored_time(fields['@floor']), values = {}, times = {},
  }
  if fields['@row'] == DELETED then
    given.floor, given.base, given.deleted = given.floor or given.base, nil, true
    return given, fields
  end
  given.times = times_in_row(fields['@row'])
  for slot = 1, #declared.names do
    local text = fields[declared.names[slot]]
    if text and declared.windows and declared.windows[slot] then given.values[slot] = text
    elseif text then
      local value, wide = parse(declared.kinds[slot], text)
      given.values[slot] = value
      if wide then declared.wide = true end
    end
  end
  for position = 1, #declared.extras do
    given.values[#declared.names + position] = fields[declared.extras[position]] and true or nil
  end
  return given, fields
end

-- Put what is newer of a given entity beside what is stored at `key`; where the times are the same, the given is newer
-- if `wins_ties`. Return the letter: S nothing was newer, P some was and is stored; A, and nothing is stored, where
-- nothing of what is stored has to stay. Or nil and an error reply.
local function merge_copy(key, declared, stored, arguments, entity, wins_ties)
  local here, failure = load_entity(key, declared, stored)
  if failure then return nil, failure end
  local there, fields = given_entity(declared, arguments, entity.first, entity.last)
  local width, taken, stays = #declared.names, {}, (here.floor or -1) > (there.floor or -1)
  for slot = 1, width + #declared.extras do
    local name = declared.names[slot] or declared.extras[slot - width]
    local own, other = time_of(here, slot, name), time_of(there, slot, name)
    if other and (not own or other > own or (wins_ties and other == own)) then taken[slot] = other
    elseif own then stays = true end
  end
  if not stays then return 'A' end
  local buries, words, forgotten = (there.floor or -1) > (here.floor or -1), {}, {}
  if not next(taken) and not buries then return 'S' end
  for slot in pairs(taken) do
    local name, value = declared.names[slot] or declared.extras[slot - width], there.values[slot]
    here.values[slot] = value
    if value == nil then forgotten[#forgotten + 1] = name
    else words[#words + 1], words[#words + 2] = name, fields[name] end
    if declared.windows and declared.windows[slot] and fields['@seen'] then
      words[#words + 1], words[#words + 2] = '@seen', fields['@seen']
    end
  end
  if buries then
    here.floor = there.floor
    words[#words + 1], words[#words + 2] = '@floor', time_text(there.floor)
  end
  touch(here, declared, taken, here.base or there.base or there.floor)
  local reply = store_entity(key, here, declared, words, forgotten)
  if reply then return nil, reply end
  return 'P'
end
