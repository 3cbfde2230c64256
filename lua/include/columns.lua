-- @include bytes
-- @include layout_word
-- @include name_of
-- @include strings
-- @include text
-- The columns of an upsert's rows, as `words` announce them:
--   overwrite, verdicts   what the options ask for: true; a table for the letters
--   layout                the layout that the caller named, or nil
--   timed                 1 where each row has a time before its values, else 0
--   names                 the feature of each column; `words` themselves, without all that stood before
-- Or nil and an error reply.
local function read_columns(words)
  local columns = { overwrite = false, verdicts = nil, timed = 0, names = words }
  while words[1] and byte(words[1]) == QUESTION_MARK do
    local option = table.remove(words, 1)
    if option == '?overwrite' then columns.overwrite = true
    elseif option == '?verdicts' then columns.verdicts = {}
    else return nil, redis.error_reply('BADARGS no such option: ' .. shown(option)) end
  end
  columns.layout = layout_named(words[1])
  if columns.layout then table.remove(words, 1) end
  if words[1] == '@event_time' then
    columns.timed = 1
    table.remove(words, 1)
  end
  return columns
end

-- Put down for each column its slot in the entity (entity.lua) and its kind; and whether the rows are `whole`: without
-- marks they give every feature. Return an error reply where there is one.
local function place_columns(columns, declared)
  local width, total, slot_of, taken = #declared.names, #declared.names + #declared.extras, {}, {}
  for slot = 1, total do slot_of[name_of(declared, slot)] = slot end
  columns.slots, columns.kinds, columns.whole = {}, {}, #columns.names == total
  for column = 1, #columns.names do
    local name = columns.names[column]
    local slot = slot_of[name]
    if not slot then return redis.error_reply('UNDECLARED ' .. shown(name) .. ' is not declared in the schema') end
    if taken[slot] then return redis.error_reply('BADARGS ' .. shown(name) .. ' is named twice') end
    taken[slot] = true
    columns.slots[column], columns.kinds[column] = slot, declared.kinds[slot] or declared.others[slot - width]
  end
  return nil
end
