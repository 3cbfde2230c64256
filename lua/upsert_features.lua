--[[
Writes features of many entities. Each row stands or falls by itself: a row that is rejected changes nothing, the
others are written. Features not named keep what is stored.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each row's entity

ARGV[1]  time      event time of all rows in ms since 1970; empty: now, by Redis's clock, whatever is stored
ARGV[2]  n         how many names follow
ARGV[3…] names     the n features that each row gives
then     rows      for each hash: the id, then n values as text. Two bytes that no text may hold are marks: FF alone
                   removes the feature, FE alone leaves what is stored.

Reply    array of 3: how many rows were written; how many were skipped because a newer event time is stored; and an
         array with an entry for each rejected row: its position, counted from 0, its code (BADID, BADTYPE or
         WRONGTYPE) and the reason as text.
Errors   BADARGS, NOSCHEMA, UNDECLARED, and Redis's own (OOM, READONLY, WRONGTYPE for a members or schema key of
         another type). After an error nothing has been written.
Cost     O(rows * n)
]]
-- @include parse
-- @include schema
local FORGET, LEAVE, NO_HASH = '\255', '\254', 'the key of the features holds no hash'
local now, name_count, row_count = ARGV[1], parse_count(ARGV[2], 2000), #KEYS - 2
if not name_count or row_count < 1
  or #ARGV ~= 2 + name_count + row_count * (name_count + 1) then
  return redis.error_reply('BADARGS want keys members, schema, hash per row; then time, n, n names, and id + n values'
    .. ' per row (n at most 2000)')
end
if now ~= '' and not (#now <= 15 and find(now, '^%d+$')) then
  return redis.error_reply('BADARGS the event time must be ms since 1970 in at most 15 digits, not ' .. shown(now))
end
local kinds = {}
if name_count > 0 then
  local _, failure
  _, kinds, failure = read_schema(KEYS[2], { unpack(ARGV, 3, 2 + name_count) })
  if failure then return failure end
end
local members = redis.pcall('SCARD', KEYS[1])
if type(members) == 'table' then return members end
local checks_age = now ~= ''
if not checks_age then
  local clock = redis.call('TIME')
  now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
end
local time = tonumber(now)

-- Texts that were found good in a column, with what to store for them: many columns hold few different values.
-- A column that turns out to hold many is not remembered (false).
local remembered, misses = {}, {}
for column = 1, name_count do remembered[column], misses[column] = {}, 0 end

-- What to store for a text that is not remembered, or nil when it is not of the column's type.
local function canonical(column, text, row)
  if text == FORGET or text == LEAVE then return text end
  local kind, stored = kinds[column], text
  local value = parse(kind, text)
  if value == nil then return nil end
  if kind == 'bool' then stored = value and 'true' or 'false'
  elseif value == 0 and byte(text, 1) == 45 then stored = '0' end -- msgpack by cmsgpack has no negative zero
  if remembered[column] then
    misses[column] = misses[column] + 1
    if misses[column] > 32 and misses[column] * 2 > row then remembered[column] = false
    else remembered[column][text] = stored end
  end
  return stored
end

-- One table serves every HSET: the names stay, each row puts its values between them.
local fields = { '@event_time', now }
for column = 1, name_count do fields[1 + 2 * column] = ARGV[2 + column] end

local arguments, keys, pcall = ARGV, KEYS, redis.pcall -- locals are quicker than globals
local written, skipped, rejected, ids = 0, 0, {}, {}
local base = 3 + name_count
for row = 1, row_count do
  local key, id, partial, code, reason = keys[2 + row], arguments[base], false, nil, nil
  if #id == 0 or #id > 256 then code, reason = 'BADID', 'an id is 1 to 256 bytes long' end
  for column = 1, code and 0 or name_count do
    local offered = arguments[base + column]
    local known = remembered[column]
    local text = known and known[offered]
    if not text then
      -- The common shapes of numbers, without a call; anything else goes the long way.
      local kind, size = kinds[column], #offered
      if not known and ((kind == 'float' and size < 100 and (find(offered, '^[1-9]%d*%.?%d*$')
        or find(offered, '^0%.%d+$'))) or (kind == 'int' and size < 16 and find(offered, '^[1-9]%d*$'))) then
        text = offered
      else
        text = canonical(column, offered, row)
        if not text then
          code, reason = 'BADTYPE', arguments[2 + column] .. ' is ' .. kind .. ', not ' .. shown(offered)
          break
        end
      end
    end
    partial = partial or text == FORGET or text == LEAVE
    fields[2 + 2 * column] = text
  end
  local newer = false
  if not code and checks_age then
    local stored = pcall('HGET', key, '@event_time')
    if type(stored) == 'table' then code, reason = 'WRONGTYPE', NO_HASH
    else newer = stored and (tonumber(stored) or 0) > time end
  end
  if newer then
    skipped = skipped + 1
  elseif not code then
    local kept, forgotten = fields, nil
    if partial then
      kept, forgotten = { '@event_time', now }, {}
      for column = 1, name_count do
        local name, text = arguments[2 + column], fields[2 + 2 * column]
        if text == FORGET then forgotten[#forgotten + 1] = name
        elseif text ~= LEAVE then kept[#kept + 1], kept[#kept + 2] = name, text end
      end
    end
    local reply = pcall('HSET', key, unpack(kept))
    if type(reply) == 'table' then
      -- Out of memory or read-only: Redis says so at the first write, so that nothing has been written.
      if string.sub(reply.err, 1, 9) ~= 'WRONGTYPE' then return reply end
      code, reason = 'WRONGTYPE', NO_HASH
    else
      if forgotten and forgotten[1] then redis.call('HDEL', key, unpack(forgotten)) end
      written = written + 1
      ids[written] = id
    end
  end
  if code then rejected[#rejected + 1] = { row - 1, code, reason } end
  base = base + name_count + 1
end
for first = 1, written, 5000 do
  redis.call('SADD', KEYS[1], unpack(ids, first, math.min(first + 4999, written)))
end
return { written, skipped, rejected }
