--[[
Writes complete rows, of entities that are known or new, from what the caller has made of them: what costs Redis in
upsert_features beside the hashes themselves is to check each value and to pack the rows. Where something newer is
stored, a deletion of that time, or what is no hash, a row is left; the caller sends it through upsert_features.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each row's entity

ARGV[1]  layout    of the schema that the rows are made by; all of its features are scalars
ARGV[2]  time      event time of all rows, in ms since 1970; empty: now, by Redis's clock, whatever is stored; '@': each
                   row has its own
ARGV[3]  n         how many names follow
ARGV[4…] names     of all features, in the order in which rows give them
then     rows      for each hash: the id; its time, where rows have their own; the features as a msgpack array in the
                   schema's order, as cmsgpack packs it; and the text of each feature. That these are of the features'
                   types, and the same in both, is for the caller to make sure

Reply    array of 2: how many rows were written, or were there already; and an array with the position, counted from 0,
         of each row that was left.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED (the schema has another layout), and Redis's own (OOM, READONLY, WRONGTYPE
         for a members or schema key of another type). After an error nothing has been written.
Cost     O(rows * n)
]]
local function replace_rows(KEYS, ARGV)
  -- @include clock
  -- @include count
  -- @include schema
  -- @include schema_errors
  -- @include time_text
  -- @include whole
  -- @include members
  local arguments, keys, pcall = ARGV, KEYS, redis.pcall
  local row_count, name_count = #keys - 2, parse_count(ARGV[3], 2000)
  local USAGE = 'BADARGS want keys members, schema, hash per row; then layout, time, n, n names, and per row id, its'
    .. ' time if it has its own, array and n texts'
  local timed = arguments[2] == '@' and 1 or 0
  local given_time = timed == 0 and (arguments[2] == '' and now() or tonumber(arguments[2] or nil))
  if row_count < 1 or not name_count or #arguments ~= 3 + name_count + row_count * (2 + timed + name_count)
    or given_time == nil then
    return redis.error_reply(USAGE)
  end
  local declared, failure = read_layout(keys[2])
  if failure then return failure end
  if declared.layout ~= arguments[1] then
    return redis.error_reply(SCHEMA_CHANGED)
  end
  local members = pcall('SCARD', keys[1])
  if type(members) == 'table' then return members end
  local given = {}
  for position = 4, 3 + name_count do given[arguments[position]] = true end
  for slot = 1, #declared.names do
    if not given[declared.names[slot]] then return redis.error_reply(USAGE) end
  end
  if name_count ~= #declared.names or #declared.extras > 0 or declared.vectors or declared.windows then
    return redis.error_reply(USAGE)
  end

  local checks, ttl, least_limit, heads = arguments[2] ~= '', declared.ttl, least_limit_of(declared), {}
  local fields, time_word = { '@row', '', '@event_time', '' }, nil
  for column = 1, name_count do fields[3 + 2 * column] = arguments[3 + column] end
  local ids, written, left, base = {}, 0, {}, 3 + name_count
  for row = 1, row_count do
    local key, time = keys[2 + row], given_time or tonumber(arguments[base + 2])
    local first = base + 2 + timed
    local head = heads[time]
    if head == nil then
      head = head_at(time, declared, least_limit)
      heads[time] = head
    end
    local usual, there = head and (ttl == 0 or time + ttl >= now()), false
    if usual then
      fields[2] = head .. arguments[first]
      if checks then
        local stored = pcall('HMGET', key, '@event_time', '@row')
        there = tonumber(stored[1] or nil) == time and stored[2] == fields[2]
        usual = not stored.err and not in_the_way(stored, time)
      end
    end
    if usual and not there then
      if time ~= time_word then time_word, fields[4] = time, time_text(time) end
      for column = 1, name_count do fields[4 + 2 * column] = arguments[first + column] end
      local added = store_whole(key, fields, time, declared)
      if type(added) == 'table' then
        -- Out of memory or read-only: Redis says so at the first write, so that nothing has been written.
        if string.sub(added.err, 1, 9) ~= 'WRONGTYPE' then return added end
        usual = false
      end
    end
    if usual then
      written = written + 1
      ids[written] = arguments[base + 1]
    else
      left[#left + 1] = row - 1
    end
    base = first + name_count
  end
  add_members(keys[1], ids)
  return { written, left }
end
