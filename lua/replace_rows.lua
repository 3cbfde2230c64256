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
then     rows      one word: a msgpack array of strings, for each hash: the id; its time, where rows have their own; the
                   packed row, which is the layout and behind it the features as a msgpack array in the schema's order,
                   as cmsgpack packs it; and the text of each feature. That these are of the features' types, and the
                   same in both, is for the caller to make sure

Reply    array of 2: how many rows were written, or were there already; and an array with the position, counted from 0,
         of each row that was left.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED (the schema has another layout), and Redis's own (OOM, READONLY, WRONGTYPE
         for a members or schema key of another type). After an error nothing has been written.
Cost     O(rows * n)
]]
-- @include clock
-- @include time
-- @include parse
-- @include window
-- @include schema
-- @include whole
-- @include members
local keys, call = KEYS, redis.pcall -- locals are quicker than globals
local row_count, name_count = #keys - 2, parse_count(ARGV[3], 2000)
local USAGE = 'BADARGS want keys members, schema, hash per row; then layout, time, n, n names, and a msgpack array with'
  .. ' id, time if it has its own, packed row and n texts per row'
local timed = ARGV[2] == '@' and 1 or 0
local given_time = timed == 0 and (ARGV[2] == '' and now() or tonumber(ARGV[2] or nil))
if row_count < 1 or not name_count or #ARGV ~= 4 + name_count or given_time == nil then
  return redis.error_reply(USAGE)
end
-- One array is read in less time than as many words of the command.
local is_array, words = pcall(cmsgpack.unpack, ARGV[4 + name_count])
if not is_array or type(words) ~= 'table' or #words ~= row_count * (2 + timed + name_count) then
  return redis.error_reply(USAGE)
end
local declared, failure = read_layout(keys[2])
if failure then return failure end
if declared.layout ~= ARGV[1] then
  return redis.error_reply('SCHEMA_CHANGED the schema has another layout now: read it again')
end
local members = call('SCARD', keys[1])
if type(members) == 'table' then return members end
local given = {}
for position = 4, 3 + name_count do given[ARGV[position]] = true end
for slot = 1, #declared.names do
  if not given[declared.names[slot]] then return redis.error_reply(USAGE) end
end
if name_count ~= #declared.names or #declared.extras > 0 or declared.vectors or declared.windows then
  return redis.error_reply(USAGE)
end

-- Rows are compared with what is stored where they have a time and one of the keys exists. Otherwise only a second row
-- of an entity is, with the first, where rows have times of their own.
local compares, written_keys = false, timed == 1 and {}
for first = 3, ARGV[2] == '' and 0 or #keys, 5000 do
  local existing = call('EXISTS', unpack(keys, first, math.min(first + 4999, #keys)))
  if type(existing) == 'table' then return existing end
  compares = compares or existing > 0
end
local ttl, least_limit, heads = declared.ttl, least_limit_of(declared), {}

-- The packed row of that time as it is stored; nil where it would be too old already, or its entity would expire.
local function packed_at(time, packed)
  if ttl > 0 and time + ttl < now() then return nil end
  if not least_limit then return packed end
  if heads[time] == nil then heads[time] = head_at(time, declared, least_limit) end
  return heads[time] and heads[time] .. string.sub(packed, #declared.layout + 1)
end

-- One table serves every HSET: the names stay, each row puts its values between them.
local fields, field_count = { '@row', '', '@event_time', given_time and time_text(given_time) }, 2 + name_count
for column = 1, name_count do fields[3 + 2 * column] = ARGV[3 + column] end
local expires = ttl > 0 or declared.ttl_ended
local ids, written, left, base, time = {}, 0, {}, 0, given_time
for row = 1, row_count do
  local key, position, there = keys[2 + row], base + 2, false
  if timed == 1 then
    if words[position] ~= fields[4] then fields[4], time = words[position], tonumber(words[position]) end
    position = position + 1
  end
  local packed = words[position]
  if ttl > 0 or least_limit then packed = packed_at(time, packed) end
  if packed and (compares or (written_keys and written_keys[key])) then
    local stored = call('HMGET', key, '@event_time', '@row')
    if stored.err or in_the_way(stored, time) then packed = nil
    else there = stored[1] == fields[4] and stored[2] == packed end
  end
  if packed and not there then
    fields[2] = packed
    for field = 6, 2 * field_count, 2 do
      position = position + 1
      fields[field] = words[position]
    end
    local added = call('HSET', key, unpack(fields))
    if type(added) == 'table' then
      -- Out of memory or read-only: Redis says so at the first write, so that nothing has been written.
      if string.sub(added.err, 1, 9) ~= 'WRONGTYPE' then return added end
      packed = nil
    elseif expires or (added > 0 and added < field_count) then
      set_expiry(key, added, field_count, time, declared)
    end
  end
  if packed then
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
