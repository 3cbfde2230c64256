--[[
Writes features of many entities. Each row stands or falls by itself: a row that is rejected changes nothing, the
others are written. Features not named keep what is stored. A value is written only if its event time is not older than
that of the feature's stored value, so that late and repeated rows cannot undo newer ones.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each row's entity

ARGV[1]  time      event time of all rows, in ms since 1970 or ISO 8601; empty: now, by Redis's clock, whatever is
                   stored
ARGV[2]  n         how many names and options follow
ARGV[3…] names     the features that each row gives. Options stand before them: `?overwrite` writes values that are
                   older than the stored ones too; `?verdicts` asks for the fourth part of the reply. A first name
                   '@' .. layout makes sure that the schema has that layout still, and alone stands for all features
                   of it. `@event_time` before the features' names is a column with the event time of each row (empty:
                   that of all rows)
then     rows      for each hash: the id, then a value for each name but options and the layout. Two bytes that no value
                   may be are marks: FF alone removes the feature, FE alone leaves what is stored.

Reply    array of 3: how many rows were written; how many were skipped because all they give is older than what is
         stored; and an array with an entry for each rejected row: its position, counted from 0, its code (BADID,
         BADTIME, BADTYPE or WRONGTYPE) and the reason as text. On demand a fourth, a letter for each row: C created,
         A applied, P partly stale, S stale, D duplicate (the same values of the same time were there), R rejected;
         C, A, P and D count as written.
Errors   BADARGS, BADTIME, NOSCHEMA, SCHEMA_CHANGED, UNDECLARED, and Redis's own (OOM, READONLY, WRONGTYPE for a members
         or schema key of another type). After an error nothing has been written.
Cost     O(rows * n); the packed row (`@row`) is kept with the fields: rows that give every feature need no read for
         it, others one HMGET.
]]
-- @include clock
-- @include time
-- @include parse
-- @include time_error
-- @include window
-- @include schema
-- @include row
-- @include whole
-- @include entity
-- @include touch
-- @include members
local FORGET, LEAVE, NO_HASH = '\255', '\254', 'the key of the features holds no hash'
local word_count, row_count = parse_count(ARGV[2], 2000), #KEYS - 2

-- The columns of the rows: `names`, after a time where `timed`.
local names, timed = word_count and { unpack(ARGV, 3, math.min(2 + word_count, #ARGV)) } or {}, 0
local overwrite, verdicts = false, nil
while names[1] and byte(names[1], 1) == 63 do
  local option = table.remove(names, 1)
  if option == '?overwrite' then overwrite = true
  elseif option == '?verdicts' then verdicts = {}
  else return redis.error_reply('BADARGS no such option: ' .. shown(option)) end
end
local layout = layout_named(names, 1)
if layout then table.remove(names, 1) end
if names[1] == '@event_time' then
  timed = 1
  table.remove(names, 1)
end
local declared, failure
local USAGE = 'BADARGS want keys members, schema, hash per row; then time, n, n names, and id + n values per row'
  .. ' (n at most 2000)'
if not word_count or row_count < 1 then return redis.error_reply(USAGE) end
if layout then
  declared, failure = read_layout(KEYS[2])
  if failure then return failure end
  if declared.layout ~= layout then
    return redis.error_reply('SCHEMA_CHANGED the schema has another layout now: read it again')
  end
  if #names == 0 then names = { unpack(declared.names) } end
end
local name_count = #names
local stride = 1 + timed + name_count
if #ARGV ~= 2 + word_count + row_count * stride then return redis.error_reply(USAGE) end
local given_time = ARGV[1] ~= '' and parse_time(ARGV[1])
if given_time == nil then
  return redis.error_reply('BADTIME ' .. time_error(ARGV[1]))
end
if not declared then
  declared, failure = read_layout(KEYS[2])
  if failure then return failure end
end
local members = redis.pcall('SCARD', KEYS[1])
if type(members) == 'table' then return members end

local width, types = #declared.names, declared.kinds
local slots, covers, covered, slot_of = {}, {}, 0, {} -- column → slot, slot → whether there is a column
for slot = 1, width do slot_of[declared.names[slot]] = slot end
for position = 1, #declared.extras do
  slot_of[declared.extras[position]], types[width + position] = width + position, declared.others[position]
end
for column = 1, name_count do
  local slot = slot_of[names[column]]
  if not slot then
    return redis.error_reply('UNDECLARED ' .. shown(names[column]) .. ' is not declared in the schema')
  end
  if covers[slot] then return redis.error_reply('BADARGS ' .. shown(names[column]) .. ' is named twice') end
  slots[column], covers[slot], covered = slot, true, covered + 1
end
local whole = covered == width + #declared.extras -- rows without marks are complete, whatever is stored

-- Values of texts that were found good in a column: many columns hold few different ones. A column that turns out to
-- hold many is not remembered (false).
local remembered, misses = {}, {}
for column = 1, name_count do
  local kind = types[slots[column]]
  remembered[column], misses[column] = kind ~= 'bool' and #kind <= 6 and {}, 0
end

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

-- One table serves every HSET: the names stay, each row puts its values between them.
local fields, values, time_word = { '@row', '', '@event_time', '' }, {}, nil
for column = 1, name_count do fields[3 + 2 * column] = names[column] end

-- Write one row beside what is stored, feature by feature. Return the verdict, or nil and an error reply.
local function merge(key, stored, time, checks)
  local entity, reply = load_entity(key, declared, stored)
  if reply then return nil, reply end
  local existed, stale, applied, changed = entity.base ~= nil, 0, 0, false
  local buried = checks and entity.floor and time <= entity.floor -- what a deletion took away stays away
  local given, words, forgotten = {}, {}, {}
  for column = 1, name_count do
    local text, slot = fields[4 + 2 * column], slots[column]
    if text ~= LEAVE then
      local known, value = time_of(entity, slot, names[column]), values[slot]
      if buried or (checks and known and known > time) then stale = stale + 1
      else
        applied = applied + 1
        given[slot] = true
        if slot > width and not changed and known == time and text ~= FORGET then
          changed = redis.call('HGET', key, names[column]) ~= text
        elseif known ~= time or (text == FORGET and entity.values[slot] ~= nil)
          or (text ~= FORGET and entity.values[slot] ~= value) then changed = true end
        if text == FORGET then forgotten[#forgotten + 1], entity.values[slot] = names[column], nil
        else
          words[#words + 1], words[#words + 2] = names[column], text
          entity.values[slot] = slot > width or value
        end
      end
    end
  end
  local empty = applied == 0 and stale == 0
  if empty and entity.deleted and buried then return 'S' end
  if stale > 0 and applied == 0 then return 'S' end
  local repeated = existed and (empty or not changed) and checks
  if repeated and row_of_layout(stored[2], declared.layout) then return 'D' end -- else the schema's ttl may be another
  touch(entity, declared, given, time)
  reply = store_entity(key, entity, declared, words, forgotten)
  if reply then return nil, reply end
  return (repeated and 'D') or (stale > 0 and 'P') or (existed and 'A') or 'C'
end

local arguments, keys, pcall, pack = ARGV, KEYS, redis.pcall, cmsgpack.pack -- locals are quicker than globals
local vectors, ttl, least_limit = declared.vectors, declared.ttl, least_limit_of(declared)
local heads, array = {}, array_head(width) -- event time → what a complete row starts with

-- Write one complete row where nothing stored is in its way; nil where something may be. Return the verdict, or nil and
-- an error reply.
local function replace(key, stored, time, checks)
  local head = heads[time]
  if head == nil then
    head = head_at(time, declared, least_limit)
    if head and not vectors then head = head .. array end
    heads[time] = head
  end
  if not head then return nil end
  if vectors then fields[2] = head .. pack_values(values, width, vectors)
  elseif width == 0 then fields[2] = head
  else fields[2] = head .. pack(unpack(values, 1, width)) end
  if checks then
    if in_the_way(stored, time) then return nil end
    if tonumber(stored[1] or nil) == time and stored[2] == fields[2] then
      if #declared.extras > 0 then return nil end -- whose values are to be compared
      return 'D'
    end
  end
  local added = pcall('HSET', key, unpack(fields))
  if type(added) == 'table' then return nil, added end
  set_expiry(key, added, 2 + name_count, time, declared)
  local existed = added < name_count
  if checks then existed = stored[1] and stored[2] ~= DELETED end
  return existed and 'A' or 'C'
end

local written, skipped, rejected, ids = 0, 0, {}, {}
local last_text, last_time
local base = 2 + word_count
for row = 1, row_count do
  local key, id, marked, code, reason = keys[2 + row], arguments[base + 1], false, nil, nil
  local time, checks = given_time, given_time and not overwrite
  if #id == 0 or #id > 256 then code, reason = 'BADID', 'an id is 1 to 256 bytes long' end
  if timed == 1 then
    local text = arguments[base + 2]
    if text ~= last_text then last_text, last_time = text, text ~= '' and parse_time(text) end
    if text ~= '' then
      time, checks = last_time, not overwrite
      if not time and not code then
        code, reason = 'BADTIME', time_error(text)
      end
    end
  end
  if not time and not code then time, checks = now(), false end
  local first = base + 1 + timed
  for column = 1, code and 0 or name_count do
    local text, slot = arguments[first + column], slots[column]
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
          local what = vector_length(kind) and #offered .. ' bytes, or NaN or infinity' or shown(offered)
          code, reason = 'BADTYPE', names[column] .. ' is ' .. kind .. ', not ' .. what
          break
        end
        marked = marked or text == FORGET or text == LEAVE
      end
    end
    fields[4 + 2 * column], values[slot] = text, value
  end
  local verdict = 'R'
  if not code then
    local stored, reply = nil, nil
    verdict = nil
    if time ~= time_word then time_word, fields[4] = time, time_text(time) end
    if checks then stored = pcall('HMGET', key, '@event_time', '@row') end
    if stored and stored.err then reply = stored
    elseif ttl > 0 and time + ttl < now() then verdict = 'S' -- it would expire at once
    else
      if whole and not marked then verdict, reply = replace(key, stored, time, checks) end
      if not verdict and not reply then verdict, reply = merge(key, stored, time, checks) end
    end
    if reply then
      -- Out of memory or read-only: Redis says so at the first write, so that nothing has been written.
      if string.sub(reply.err, 1, 9) ~= 'WRONGTYPE' then return reply end
      code, reason, verdict = 'WRONGTYPE', NO_HASH, 'R'
    elseif verdict == 'S' then skipped = skipped + 1
    else
      written = written + 1
      ids[written] = id
    end
  end
  if code then rejected[#rejected + 1] = { row - 1, code, reason } end
  if verdicts then verdicts[row] = verdict end
  base = base + stride
end
add_members(KEYS[1], ids)
return { written, skipped, rejected, verdicts and table.concat(verdicts) }
