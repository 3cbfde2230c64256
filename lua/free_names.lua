--[[
Makes the names of retired features free for features of any type, or the name of a dropped entity, once clear_hashes
was called for every hash that there was at the time of the retirement.

KEYS[1]  schema    a hash: the schema; in a cluster its version grows by one, since the partitions have copies of it
KEYS[2]  schemas   optional: a set: the keys of all schemas, which a dropped entity's is taken out of

ARGV[1…] words     name, token, name, token …, as `@retiring` of the schema had them before the first hash was cleared;
                   or `@dropping` and the token that the schema has in the field of that name

Reply    how many names were made free: those that are still being retired by that token. A retirement that began later
         has another token, and its name stays as it is.
Errors   BADARGS, and Redis's own (NOPERM, READONLY, WRONGTYPE). After an error nothing has been written.
Cost     O(words)
]]
local function free_names(KEYS, ARGV)
  -- @include permissions
  -- @include retiring
  -- @include usage
  -- @include wrong_schema_key
  if #KEYS < 1 or #KEYS > 2 or #ARGV == 0 or #ARGV > 2000 or #ARGV % 2 ~= 0 then
    return usage('1 key (schema) or 2 (and the set of all), then name and token of each (1 to 1000)', KEYS, ARGV)
  end
  local failure = wrong_schema_key(KEYS[1])
  if failure then return failure end
  if KEYS[2] and not string.find(KEYS[2], 'featurestore:schemas$') then
    -- @include text
    return redis.error_reply('BADARGS the set of all schemas is featurestore:schemas, not ' .. shown(KEYS[2]))
  end
  local state = redis.pcall('HMGET', KEYS[1], '@retiring', '@dropping', '@partitions', '@version')
  if state.err then return state end

  if ARGV[1] == '@dropping' then
    if state[2] ~= ARGV[2] then return 0 end
    failure = refusal(KEYS[1], 'UNLINK', KEYS[1]) or (KEYS[2] and refusal(KEYS[1], 'SREM', KEYS[2], '@')) or nil
    if failure then return failure end
    local reply = redis.pcall('UNLINK', KEYS[1])
    if type(reply) == 'table' then return reply end
    if KEYS[2] then redis.call('SREM', KEYS[2], KEYS[1]) end
    return 1
  end

  local tokens, names = read_retiring(state[1])
  local freed, left = 0, {}
  for position = 1, #ARGV, 2 do
    local name = ARGV[position]
    if tokens[name] and tokens[name] == ARGV[position + 1] then freed, tokens[name] = freed + 1, nil end
  end
  if freed == 0 then return 0 end
  for position = 1, #names do
    local name = names[position]
    if tokens[name] then left[#left + 1], left[#left + 2] = name, tokens[name] end
  end
  failure = refusal(KEYS[1], 'HDEL', KEYS[1], '@') or refusal(KEYS[1], 'HSET', KEYS[1], '@', '')
  if failure then return failure end
  local reply = redis.pcall('HDEL', KEYS[1], '@retiring')
  if type(reply) == 'table' then return reply end
  if #left > 0 then redis.call('HSET', KEYS[1], '@retiring', cjson.encode(left)) end
  if state[3] then redis.call('HSET', KEYS[1], '@version', tonumber(state[4]) + 1) end -- so that it is copied
  return freed
end
