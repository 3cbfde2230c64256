--[[
Takes away an entity's schema and its set of known ids, so that nobody reads or writes it any more. Its hashes stay
until clear_hashes has been called for each; until free_names says so, no schema can be stored at the key.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema; afterwards it has a field `@dropping` alone, with a token that free_names takes;
                   in a cluster `@partitions`, too

ARGV     none

Reply    1; 0 where the entity is being dropped already.
Errors   BADARGS, NOSCHEMA, and Redis's own (NOPERM, READONLY, WRONGTYPE for a schema key of another type). After an
         error nothing has been removed.
Cost     O(features); Redis frees the memory of the set beside other calls.
]]
local function drop_entity(KEYS, ARGV)
  -- @include clock
  -- @include foreign_members
  -- @include no_schema
  -- @include permissions
  -- @include time_text
  -- @include usage
  -- @include wrong_schema_key
  if #KEYS ~= 2 or #ARGV > 0 then return usage('2 keys (members, schema), and nothing else', KEYS, ARGV) end
  local failure = wrong_schema_key(KEYS[2])
  if failure then return failure end
  local state = redis.pcall('HMGET', KEYS[2], '@layout', '@dropping', '@members_key', '@partitions')
  if state.err then return state end
  if state[2] then return 0 end
  if not state[1] then return no_schema(KEYS[2]) end
  -- HDEL before HSET: on Redis 6.2 it is called, and where memory is full, HSET can be tried only after that.
  failure = foreign_members(KEYS, state[3]) or refusal(KEYS[2], 'UNLINK', KEYS[1])
    or refusal(KEYS[2], 'HDEL', KEYS[2], '@') or refusal(KEYS[2], 'HSET', KEYS[2], '@', '')
  if failure then return failure end
  local token = time_text(now())
  local reply = redis.pcall('UNLINK', KEYS[1], KEYS[2])
  if type(reply) == 'table' then return reply end
  redis.call('HSET', KEYS[2], '@dropping', token)
  if state[4] then redis.call('HSET', KEYS[2], '@partitions', state[4]) end
  return 1
end
