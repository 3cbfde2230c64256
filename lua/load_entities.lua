--[[
Brings in entities that are new, from hashes that the caller has made: what costs Redis in upsert_features is to check
each value and to make the hash. An entity of which anything is stored, be it a tombstone, is left as it is; the caller
sends its row through another script. Needs a server that has RESTORE for hashes in a listpack: Redis 7.0, Valkey.

KEYS[1]  set       ids of all known entities
KEYS[2]  hash      the schema
KEYS[3…] hashes    the features of each row's entity

ARGV[1]  layout    of the schema that the hashes are made by
ARGV[2]  n         how many words a row has: 2, or 3 with an expiry
then     rows      for each hash: the id; the expiry of its key, in ms since 1970; and what DUMP would say of the hash
                   that upsert_features makes of the row. Redis checks the form of a dump; that it is such a hash, with
                   values of the features' types, is for the caller to make sure

Reply    array of 3: how many entities were brought in; Redis's time, in ms since 1970; and an array with the position,
         counted from 0, of each row that was not taken since something is stored.
Errors   BADARGS, NOSCHEMA, SCHEMA_CHANGED (the schema has another layout), and Redis's own: OOM, READONLY, WRONGTYPE
         for a members or schema key of another type, ERR where the server cannot read such dumps, NOPERM where the
         user may not RESTORE. After an error nothing has been written.
Cost     O(rows)
]]
local function load_entities(KEYS, ARGV)
  -- @include clock
  -- @include members
  local keys, arguments, pcall, count = KEYS, ARGV, redis.pcall, #KEYS - 2
  local stride = tonumber(ARGV[2] or nil)
  if count < 1 or (stride ~= 2 and stride ~= 3) or #ARGV ~= 2 + count * stride then
    return redis.error_reply('BADARGS want keys members, schema, hash per row; then layout, 2 or 3, and words per'
      .. ' row')
  end
  local layout = pcall('HGET', KEYS[2], '@layout')
  if type(layout) == 'table' then return layout end
  if not layout then
    return redis.error_reply('NOSCHEMA no schema is stored: featurestore apply FILE declares features')
  end
  if layout ~= ARGV[1] then
    return redis.error_reply('SCHEMA_CHANGED the schema has another layout now: read it again')
  end
  local members = pcall('SCARD', KEYS[1])
  if type(members) == 'table' then return members end

  local stored = 0
  for first = 3, #keys, 5000 do
    stored = stored + redis.call('EXISTS', unpack(keys, first, math.min(first + 4999, #keys)))
  end
  local ids, taken, left, base, reply = {}, 0, {}, 2, nil
  for row = 1, count do
    local key, expiry = keys[2 + row], stride == 3 and arguments[base + 2] or '0'
    local there = stored == count or (stored > 0 and redis.call('EXISTS', key) == 1)
    if not there then reply = pcall('RESTORE', key, expiry, arguments[base + stride], 'ABSTTL') end
    if not there and reply.ok then
      taken = taken + 1
      ids[taken] = arguments[base + 1]
    elseif there or taken > 0 then left[#left + 1] = row - 1 -- an entity that is twice in a call is there by now
    else return reply end -- Redis refuses at the first one
    base = base + stride
  end
  add_members(KEYS[1], ids)
  return { taken, now(), left }
end
