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
Cost     O(rows * n); the packed row (`@row`) is kept with the fields: rows that give every feature need no read for
         it, others one HMGET.
]]
-- @include parse
-- @include schema
-- @include row
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
local names, types, layout, failure = read_layout(KEYS[2])
if failure then return failure end
local members = redis.pcall('SCARD', KEYS[1])
if type(members) == 'table' then return members end
local slots, kinds, covered, slot_of = {}, {}, 0, {} -- column → place in the row, column → type
for slot = 1, #names do slot_of[names[slot]] = slot end
for column = 1, name_count do
  local name = ARGV[2 + column]
  local slot = slot_of[name]
  if not slot then return redis.error_reply('UNDECLARED ' .. shown(name) .. ' is not declared in the schema') end
  if not kinds[slot] then covered = covered + 1 end
  slots[column], kinds[slot] = slot, types[slot]
end
local whole = covered == #names -- rows without marks are complete, whatever is stored
local checks_age = now ~= ''
if not checks_age then
  local clock = redis.call('TIME')
  now = string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000))
end
local time = tonumber(now)

-- Values of texts that were found good in a column: many columns hold few different ones. A column that turns out to
-- hold many is not remembered (false).
local remembered, misses = {}, {}
for column = 1, name_count do remembered[column], misses[column] = types[slots[column]] ~= 'bool' and {}, 0 end

-- The value of a text that is not remembered and what to store for it; nil when it is not of the column's type. A mark
-- stands for itself.
local function canonical(column, text, row)
  if text == FORGET or text == LEAVE then return text, text end
  local value = parse(types[slots[column]], text)
  if value == nil then return nil end
  if value == true then return value, 'true' end
  if value == false then return value, 'false' end
  if value == 0 and byte(text, 1) == 45 then return 0, '0' end -- msgpack by cmsgpack has no negative zero
  if remembered[column] then
    misses[column] = misses[column] + 1
    if misses[column] > 32 and misses[column] * 2 > row then remembered[column] = false
    else remembered[column][text] = value end
  end
  return value, text
end

-- The packed row of an entity after an upsert that does not give every feature. The rest comes from the stored row, or
-- from the fields where that has another layout.
local function merged_row(key, stored, values, texts)
  local packed = row_of_layout(stored, layout)
  local merged = packed and cmsgpack.unpack(packed) or cast_fields(key, names, types)
  for column = 1, name_count do
    local slot, text = slots[column], texts[2 * column + 4]
    if text == FORGET then merged[slot] = nil
    elseif text ~= LEAVE then merged[slot] = values[slot] end
  end
  return merged
end

-- One table serves every HSET: the names stay, each row puts its values between them.
local fields, values = { '@row', '', '@event_time', now }, {}
for column = 1, name_count do fields[3 + 2 * column] = ARGV[2 + column] end

-- The HSET words and HDEL words of a row with marks.
local function without_marks()
  local kept, forgotten = { '@row', fields[2], '@event_time', now }, {}
  for column = 1, name_count do
    local name, text = fields[3 + 2 * column], fields[4 + 2 * column]
    if text == FORGET then forgotten[#forgotten + 1] = name
    elseif text ~= LEAVE then kept[#kept + 1], kept[#kept + 2] = name, text end
  end
  return kept, forgotten
end

local arguments, keys, pcall, pack = ARGV, KEYS, redis.pcall, cmsgpack.pack -- locals are quicker than globals
local prefix, width = layout .. array_head(#names), #names
local written, skipped, rejected, ids = 0, 0, {}, {}
local base = 3 + name_count
for row = 1, row_count do
  local key, id, marked, code, reason = keys[2 + row], arguments[base], false, nil, nil
  if #id == 0 or #id > 256 then code, reason = 'BADID', 'an id is 1 to 256 bytes long' end
  for column = 1, code and 0 or name_count do
    local text, slot = arguments[base + column], slots[column]
    local known = remembered[column]
    local value = known and known[text]
    if not value then
      -- The common shapes of numbers, without a call; anything else goes the long way.
      local kind, size = types[slot], #text
      if not known and ((kind == 'float' and size < 100 and (find(text, '^[1-9]%d*%.?%d*$')
        or find(text, '^0%.%d+$'))) or (kind == 'int' and size < 16 and find(text, '^[1-9]%d*$'))) then
        value = tonumber(text)
      else
        local offered = text
        value, text = canonical(column, offered, row)
        if value == nil then
          code, reason = 'BADTYPE', names[slot] .. ' is ' .. kind .. ', not ' .. shown(offered)
          break
        end
        marked = marked or text == FORGET or text == LEAVE
      end
    end
    fields[4 + 2 * column], values[slot] = text, value
  end
  local newer, complete = false, whole and not marked
  if not code then
    local packed = values
    if checks_age or not complete then
      local stored = pcall('HMGET', key, '@event_time', '@row')
      if stored.err then code, reason = 'WRONGTYPE', NO_HASH
      else
        newer = checks_age and stored[1] and (tonumber(stored[1]) or 0) > time
        if not complete and not newer then packed = merged_row(key, stored[2], values, fields) end
      end
    end
    fields[2] = prefix .. pack(unpack(packed, 1, width))
  end
  if newer then
    skipped = skipped + 1
  elseif not code then
    local kept, forgotten = fields, nil
    if marked then kept, forgotten = without_marks() end
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
