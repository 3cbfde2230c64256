--[[
Takes entities that have no hash out of the set of known ids: they have expired, or Redis has evicted them.

KEYS[1]  members   a set: ids of all known entities
KEYS[2…] hashes    the features of each entity

ARGV[1…] ids       one for each hash, in the same order

Reply    how many ids were taken out: those whose key holds nothing any more.
Errors   BADARGS, and Redis's own (READONLY, WRONGTYPE for a members key of another type).
Cost     O(ids); keep a call to some hundred ids.
]]
local function sweep_members(KEYS, ARGV)
  local id_count = #KEYS - 1
  if id_count < 1 or id_count > 5000 or #ARGV ~= id_count then
    return redis.error_reply('BADARGS want keys members, hash per id; then an id per hash (1 to 5000)')
  end
  local gone = {}
  for position = 1, id_count do
    if redis.call('EXISTS', KEYS[1 + position]) == 0 then gone[#gone + 1] = ARGV[position] end
  end
  if #gone == 0 then return 0 end
  return redis.pcall('SREM', KEYS[1], unpack(gone))
end
