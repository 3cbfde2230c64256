-- @include clock
-- @include event_time
-- @include key_form
-- @include members
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

-- Write complete rows as the caller has made them. `rows` tells what they are:
--   words      of each row: its id; its time, if rows have their own; the packed row; and the text of each feature
--   names      of the features, in the order of the texts
--   timed      1 where each row has its own time, else 0
--   time       else the event time of all rows
--   latest     the latest event time that a row may have
--   compares   whether rows are compared with what is stored. If not, only a second row of the same entity is compared,
--              with the first, where rows have times of their own
-- Return the script's reply: how many rows are stored now, and the positions of those left; or an error reply.
local function write_complete(keys, declared, rows)
  local words, names, timed, time, compares = rows.words, rows.names, rows.timed, rows.time, rows.compares
  local call, type, ttl, least_limit, heads = redis.pcall, type, declared.ttl, nil, {}
  if declared.limits then
    -- @include least_limit
    least_limit = least_limit_of(declared)
  end
  -- One table serves every HSET: the names stay, each row puts its values between them.
  local fields, field_count = { '@row', '', '@event_time', time_text(time) }, 2 + #names
  for column = 1, #names do fields[3 + 2 * column] = names[column] end
  local expires, written_keys = ttl > 0 or declared.ttl_ended, timed == 1 and {}
  local ids, written, left, base = {}, 0, {}, 0
  local start, time_word = declared.layout .. array_head(#names), {} -- none yet
  local prefix = string.sub(keys[2], 1, -1 - #SCHEMA_END)
  for row = 1, #keys - 2 do
    local key, position = keys[2 + row], base + 2
    if timed == 1 then
      if words[position] ~= time_word then
        time_word = words[position]
        time = type(time_word) == 'string' and read_time(time_word, rows.latest)
        fields[4] = time and time_text(time)
      end
      position = position + 1
    end
    local packed, id, there = words[position], words[base + 1], false
    local fine = time and type(id) == 'string' and key == prefix .. id .. AFTER_ID and #id > 0 and #id <= 256
      and type(packed) == 'string' and sub(packed, 1, #start) == start
    if fine and (ttl > 0 or least_limit) then
      packed = packed_at(time, packed, declared, least_limit, heads)
      fine = packed ~= nil
    end
    if fine and (compares or (written_keys and written_keys[key])) then
      local stored = call('HMGET', key, '@event_time', '@row', '@floor')
      fine = not stored.err and not in_the_way(stored, time)
      there = fine and stored[1] == fields[4] and stored[2] == packed
    end
    if fine and not there then
      fields[2] = packed
      for field = 6, 2 * field_count, 2 do
        position = position + 1
        fields[field] = words[position]
      end
      local added = call('HSET', key, unpack(fields, 1, 2 * field_count))
      if type(added) == 'table' then
        -- @include wrong_type
        -- A word that is no text is refused before the command is executed.
        if not is_wrong_type(added) and not string.find(added.err, 'arguments must be strings', 1, true) then
          add_members(keys[1], ids) -- what was written before stays known
          return added
        end
        fine = false
      elseif expires or (added > 0 and added < field_count) then
        set_expiry(key, added, field_count, time, declared)
      end
    end
    if fine then
      written = written + 1
      ids[written] = id
      if written_keys then written_keys[key] = true end
    else
      left[#left + 1] = row - 1
    end
    base = base + 2 + timed + #names
  end
  add_members(keys[1], ids)
  return { written, left }
end
