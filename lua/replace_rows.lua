--[[
Writes complete rows, of known and of new entities. The caller has made what is stored: the packed row, and the text of
each feature. So nothing is checked or packed here, which is half of what upsert_features costs. A row is left where
something newer is stored, where the entity was deleted at that time, where the key holds no hash, and where the row is
too old to be served. The caller sends such a row through upsert_features.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each row's entity

ARGV[1]  layout    of the schema that the rows are made by; all of its features are scalars
ARGV[2]  time      event time of all rows, in ms since 1970; empty: now, by Redis's clock, whatever is stored; '@': each
                   row has its own
ARGV[3]  n         how many names follow
ARGV[4…] names     of all features, in the order in which rows give them
then     rows      one word: a msgpack array of strings. For each hash: the id; its time, if rows have their own; the
                   packed row; and the text of each feature. The packed row is the layout, followed by the features as
                   a msgpack array in the schema's order, as cmsgpack packs it. The caller makes sure that all values
                   are of the features' types, and the same in packed row and texts

Reply    array of 2: how many rows are stored now, those that already were included; and an array with the position,
         counted from 0, of each row that was left.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED (the schema has another layout), and Redis's own (OOM, READONLY, WRONGTYPE
         for a members or schema key of another type). After an error nothing has been written.
Cost     O(rows * n)
]]
local function replace_rows(KEYS, ARGV)
  -- @include clock
  -- @include count
  -- @include members
  -- @include schema
  -- @include schema_errors
  -- @include time_text
  -- @include whole
  local keys, call = KEYS, redis.pcall
  local row_count, name_count = #keys - 2, parse_count(ARGV[3], 2000)
  local USAGE = 'BADARGS want keys members, schema, hash per row; then layout, time, n, n names, and a msgpack array'
    .. ' with id, time if it has its own, packed row and n texts per row'
  local timed = ARGV[2] == '@' and 1 or 0
  local given_time = timed == 0 and (ARGV[2] == '' and now() or tonumber(ARGV[2] or nil))
  if row_count < 1 or not name_count or #ARGV ~= 4 + name_count or given_time == nil then
    return redis.error_reply(USAGE)
  end
  -- One argument with all rows: every further argument would cost Redis 0.1 us.
  local is_array, words = pcall(cmsgpack.unpack, ARGV[4 + name_count])
  if not is_array or type(words) ~= 'table' or #words ~= row_count * (2 + timed + name_count) then
    return redis.error_reply(USAGE)
  end
  local declared, failure = read_layout(keys[2])
  if failure then return failure end
  if declared.layout ~= ARGV[1] then
    return redis.error_reply(SCHEMA_CHANGED)
  end
  local members = call('SCARD', keys[1])
  if type(members) == 'table' then return members end

  -- Whether the names are those of the schema's features, all of them scalars.
  local function fits()
    local given = {}
    for position = 4, 3 + name_count do given[ARGV[position]] = true end
    for slot = 1, #declared.names do
      if not given[declared.names[slot]] then return false end
    end
    return name_count == #declared.names and #declared.extras == 0 and not declared.vectors and not declared.windows
  end
  if not fits() then return redis.error_reply(USAGE) end

  -- Rows without a time are written whatever is stored. Others are compared with what is stored, if a key exists. If
  -- none does, only a second row of the same entity is compared, with the first, if rows have times of their own.
  local compares, written_keys = false, timed == 1 and {}
  for first = 3, ARGV[2] == '' and 0 or #keys, 5000 do
    local existing = call('EXISTS', unpack(keys, first, math.min(first + 4999, #keys)))
    if type(existing) == 'table' then return existing end
    compares = compares or existing > 0
  end

  local ttl, least_limit, heads = declared.ttl, least_limit_of(declared), {}

  -- The packed row as it is stored under a schema with a `ttl` or a `max_age`; nil if the row is too old to be served.
  local function packed_at(time, packed)
    if ttl > 0 and time + ttl < now() then return nil end
    if not least_limit then return packed end
    if heads[time] == nil then heads[time] = head_at(time, declared, least_limit) end
    return heads[time] and heads[time] .. string.sub(packed, #declared.layout + 1) or nil
  end

  -- Whether the row can be written over what is stored; and whether it is stored already.
  local function compare(key, time, time_word, packed)
    local stored = call('HMGET', key, '@event_time', '@row')
    if stored.err or in_the_way(stored, time) then return false, false end
    return true, stored[1] == time_word and stored[2] == packed
  end

  -- One table serves every HSET: the names stay, each row puts its values between them.
  local fields, field_count = { '@row', '', '@event_time', given_time and time_text(given_time) }, 2 + name_count
  for column = 1, name_count do fields[3 + 2 * column] = ARGV[3 + column] end
  local expires = ttl > 0 or declared.ttl_ended
  local ids, written, left, base, time = {}, 0, {}, 0, given_time
  for row = 1, row_count do
    local key, position = keys[2 + row], base + 2
    if timed == 1 then
      if words[position] ~= fields[4] then fields[4], time = words[position], tonumber(words[position]) end
      position = position + 1
    end
    local packed, fine, there = words[position], true, false
    if ttl > 0 or least_limit then
      packed = packed_at(time, packed)
      fine = packed ~= nil
    end
    if fine and (compares or (written_keys and written_keys[key])) then
      fine, there = compare(key, time, fields[4], packed)
    end
    if fine and not there then
      fields[2] = packed
      for field = 6, 2 * field_count, 2 do
        position = position + 1
        fields[field] = words[position]
      end
      local added = call('HSET', key, unpack(fields))
      if type(added) == 'table' then
        -- Out of memory or read-only: Redis says so at the first write, so nothing has been written.
        if string.sub(added.err, 1, 9) ~= 'WRONGTYPE' then return added end
        fine = false
      elseif expires or (added > 0 and added < field_count) then
        set_expiry(key, added, field_count, time, declared)
      end
    end
    if fine then
      written = written + 1
      ids[written] = words[base + 1]
      if written_keys then written_keys[key] = true end
    else
      left[#left + 1] = row - 1
    end
    base = base + 2 + timed + name_count
  end
  add_members(keys[1], ids)
  return { written, left }
end
