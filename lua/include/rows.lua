-- @include clock
-- @include event_time
-- @include key_form
-- Take the rows of a call one after the other; each stands or falls by itself. `rows` tells where they are in
-- `arguments`, and what holds for all of them:
--   before, stride   how many words stand before the first row; how many a row has: its id, and what `write` reads
--   timed            1 where a row's own time follows its id (empty: that of all rows), else 0
--   time             event time of all rows; false: now, whatever is stored
--   latest           the latest event time that a row may have
--   known            true if the ids need not be added to the known ones
--   overwrite        whether what is stored may be newer
--   skips_repeated   whether a row of verdict D counts as skipped, not as written
--   verdicts         a table for a letter a row; nil for none
-- `write(key, before, time, checks, row)` writes the row whose words stand behind `before`, and looks whether what is
-- stored is newer where `checks`. It returns the row's verdict; or nil and an error reply; or nil, nil, and the code
-- and the reason of its rejection.
-- Return the script's reply: counts of rows written and skipped, the rejected rows, the verdicts.
local function take_rows(keys, arguments, rows, write)
  local written, skipped, rejected, ids, verdicts = 0, 0, {}, {}, rows.verdicts
  local before, stride, timed, call_time = rows.before, rows.stride, rows.timed, rows.time
  local last_text, last_time
  local prefix = string.sub(keys[2], 1, -1 - #SCHEMA_END)
  for row = 1, #keys - 2 do
    local id, time, checks = arguments[before + 1], call_time, call_time and not rows.overwrite
    local key, is_own = keys[2 + row], true
    local verdict, reply, code, reason
    if key ~= prefix .. id .. AFTER_ID or #id == 0 or #id > 256 then is_own = false end
    if timed == 1 then
      local text = arguments[before + 2]
      if text ~= last_text then last_text, last_time = text, text ~= '' and read_time(text, rows.latest) end
      if text ~= '' then time, checks = last_time, not rows.overwrite end
    end
    if not is_own then
      -- @include id_error
      -- @include key_error
      code, reason = 'BADID', id_error(id) or key_error(keys[2], id, key)
    elseif time == nil then
      -- @include time_error
      code, reason = 'BADTIME', time_error(last_text)
    else
      if not time then time, checks = now(), false end
      verdict, reply, code, reason = write(key, before + 1 + timed, time, checks, row)
    end
    if reply then
      -- @include members
      -- @include wrong_type
      if not is_wrong_type(reply) then
        add_members(keys[1], ids) -- what was written before stays known
        return reply
      end
      code, reason = 'WRONGTYPE', 'the key of the features holds no hash'
    end
    if code then
      verdict = 'R'
      rejected[#rejected + 1] = { row - 1, code, reason }
    elseif verdict == 'S' or (verdict == 'D' and rows.skips_repeated) then skipped = skipped + 1
    else
      written = written + 1
      ids[written] = id
    end
    if verdicts then verdicts[row] = verdict end
    before = before + stride
  end
  if not rows.known then
    -- @include members
    add_members(keys[1], ids)
  end
  return { written, skipped, rejected, verdicts and table.concat(verdicts) }
end
