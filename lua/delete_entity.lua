--[[
Removes one entity: its features and its membership, together.

KEYS[1]  hash      the entity's features
KEYS[2]  set       ids of all known entities

ARGV[1]  id        the entity's id, as it stands in the set

Reply    1 when something was removed, else 0.
Errors   BADARGS, and Redis's own (WRONGTYPE for a members key of another type, READONLY).
Cost     O(features)
]]
if #KEYS ~= 2 or #ARGV ~= 1 then
  return redis.error_reply('BADARGS want 2 keys (hash, members), then the id')
end
local member = redis.pcall('SREM', KEYS[2], ARGV[1])
if type(member) == 'table' then return member end
local hash = redis.call('DEL', KEYS[1])
return (member == 1 or hash == 1) and 1 or 0
