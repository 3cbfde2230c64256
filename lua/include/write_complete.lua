-- @include clock
-- @include event_time
-- @include key_form
-- @include members
-- @include row_format
-- @include strings
-- @include time_text
-- @include array_head
-- @include whole
-- The packed row as it is stored under a schema with a `ttl` or a `max_age`; nil if the row is too old to be served.
-- `heads` has what rows of a time start with.
local function packed_at(time, packed, declared, least_limit, heads)
  if declared.ttl > 0 and time + declared.ttl < now() then return nil end
  if not least_limit then return packed end
  if heads[time] == nil then heads[time] = head_at(time, declared, least_limit) end
  return heads[time] and heads[time] .. string.sub(packed, #declared.layout + 1) or nil
end

-- Whether the vectors that are not in the packed row are stored as the words behind `before` have them.
local function are_stored(key, extras, names, words, before)
  local given = {}
  for column = 1, #names do given[names[column]] = words[before + column] end
  local stored = redis.call('HMGET', key, unpack(extras))
  for position = 1, #extras do
    if stored[position] ~= given[extras[position]] then return false end
  end
  return true
end

-- Whether the stored state is that of an entity, and not of none or a deleted one.
local function is_alive(stored)
  return stored[1] and stored[2] ~= DELETED
end

-- Whether a packed row tells of features that are removed, and these may be removed. `declared` keeps the latter.
local function may_remove(keys, packed, declared)
  local head = array_head(#declared.names)
  local start = sub(packed, 1, #declared.layout) == declared.layout
    and string.match(packed, '^|%d+=[^|=;]+|()', #declared.layout + 1)
  if not start or sub(packed, start, start + #head - 1) ~= head then return false end
  if declared.removable == nil then
    -- @include permissions
    declared.removable = not refusal(keys[2], 'HDEL', keys[3], '@')
  end
  return declared.removable
end

-- Of field, value … of a row those that have a value; how many these are; and the fields without one.
local function without_gaps(fields, field_count)
  local set, gone = {}, {}
  for field = 1, 2 * field_count, 2 do
    if fields[field + 1] then set[#set + 1], set[#set + 2] = fields[field], fields[field + 1]
    else gone[#gone + 1] = fields[field] end
  end
  return set, #set / 2, gone
end

-- Write complete rows as the caller has made them. `rows` tells what they are:
--   words      of each row: its id; its time, if rows have their own; the packed row; and the text of each feature,
--              false for one that is removed
--   names      of the features, in the order of the texts
--   timed      1 where each row has its own time, else 0
--   time       else the event time of all rows
--   latest     the latest event time that a row may have
--   compares   whether rows are compared with what is stored. If not, only a second row of the same entity is compared,
--              with the first, where rows have times of their own
--   letters    a table for the verdicts, or false where none are asked for
-- Return the script's reply: how many rows are stored now, and the positions of those left; or an error reply.
local function write_complete(keys, declared, rows)
  local words, names, timed, time, compares = rows.words, rows.names, rows.timed, rows.time, rows.compares
  local call, type, ttl, least_limit, heads = redis.pcall, type, declared.ttl, nil, {}
  local latest, tonumber, unpack = rows.latest, tonumber, unpack
  if declared.limits then
    -- @include least_limit
    least_limit = least_limit_of(declared)
  end
  -- One table serves every HSET: the names stay, each row puts its values between them.
  local fields, field_count = { '@row', '', '@event_time', time_text(time) }, 2 + #names
  for column = 1, #names do fields[3 + 2 * column] = names[column] end
  local expires, written_keys = ttl > 0 or declared.ttl_ended, timed == 1 and {}
  local ids, written, left, base = {}, 0, {}, 0
  local start, time_word = declared.layout .. array_head(#declared.names), {} -- none yet
  local letters, extras = rows.letters, declared.extras
  local prefix = string.sub(keys[2], 1, -1 - #SCHEMA_END)
  for row = 1, #keys - 2 do
    local key, position = keys[2 + row], base + 2
    if timed == 1 then
      if words[position] ~= time_word then
        time_word = words[position]
        if type(time_word) == 'string' and #time_word == 13 and find(time_word, '^[1-9]%d+$') then -- as it is stored
          time, fields[4] = tonumber(time_word), time_word
          if time > latest then time = nil end
        else
          time = type(time_word) == 'string' and read_time(time_word, latest)
          fields[4] = time and time_text(time)
        end
      end
      position = position + 1
    end
    local packed, id, there, letter, has_gaps = words[position], words[base + 1], false, 'A', false
    local fine = time and type(id) == 'string' and key == prefix .. id .. AFTER_ID and #id > 0 and #id <= 256
      and type(packed) == 'string'
    if fine and sub(packed, 1, #start) ~= start then
      has_gaps = not least_limit and may_remove(keys, packed, declared)
      fine = has_gaps
    end
    if fine and (ttl > 0 or least_limit) then
      packed = packed_at(time, packed, declared, least_limit, heads)
      fine = packed ~= nil
    end
    if fine and (compares or (written_keys and written_keys[key])) then
      local stored = call('HMGET', key, '@event_time', '@row', '@floor')
      fine = not stored.err and not in_the_way(stored, time)
      there = fine and stored[1] == fields[4] and stored[2] == packed
        and (#extras == 0 or are_stored(key, extras, names, words, position))
      letter = there and 'D' or (fine and not is_alive(stored) and 'C') or 'A'
    end
    if fine and not there then
      fields[2] = packed
      for field = 6, 2 * field_count, 2 do
        position = position + 1
        fields[field] = words[position]
      end
      local set, count, gone = fields, field_count, nil
      if has_gaps then set, count, gone = without_gaps(fields, field_count) end
      local added = call('HSET', key, unpack(set, 1, 2 * count))
      if type(added) == 'table' then
        -- @include wrong_type
        -- A word that is no text is refused before the command is executed.
        if not is_wrong_type(added) and not string.find(added.err, 'arguments must be strings', 1, true) then
          add_members(keys[1], ids) -- what was written before stays known
          return added
        end
        fine = false
      else
        if not compares and added >= count - 2 then letter = 'C' end
        if gone and added < count then call('HDEL', key, unpack(gone)) end
        if expires or (added > 0 and added < count) then set_expiry(key, added, count, time, declared) end
      end
    end
    if fine then
      written = written + 1
      ids[written] = id
      if written_keys then written_keys[key] = true end
    else
      left[#left + 1] = row - 1
      letter = 'L'
    end
    if letters then letters[row] = letter end
    base = base + 2 + timed + #names
  end
  add_members(keys[1], ids)
  return { written, left, letters and table.concat(letters) or nil }
end
