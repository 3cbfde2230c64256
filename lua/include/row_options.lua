-- @include bytes
-- @include strings
-- Take from `words` what stands before the names of the features, and return what it says of the rows, as take_rows has
-- it, with the `layout` that the caller named, if any. Or nil and an error reply.
local function take_options(words)
  local rows = { -- with room for what the script sets: a table that grows costs
    before = nil, stride = nil, time = nil, timed = 0, overwrite = false, verdicts = nil, skips_repeated = false,
    layout = nil, latest = nil, known = false,
  }
  while words[1] and byte(words[1]) == QUESTION_MARK do
    local option = table.remove(words, 1)
    if option == '?overwrite' then rows.overwrite = true
    elseif option == '?verdicts' then rows.verdicts = {}
    else
      -- @include text
      return nil, redis.error_reply('BADARGS no such option: ' .. shown(option))
    end
  end
  if words[1] and byte(words[1]) == AT_SIGN then
    -- @include layout_word
    local wrong
    rows.layout, wrong = layout_named(words[1])
    if wrong then return nil, wrong end
    if rows.layout then table.remove(words, 1) end
  end
  if words[1] == '@event_time' then
    rows.timed = 1
    table.remove(words, 1)
  end
  return rows
end
