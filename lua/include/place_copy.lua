-- Make the hash at `key` the one whose fields stand in `arguments` from `entity.first` to `entity.last`, with its
-- expiry; `is_here` tells whether there is one already. Return an error reply if there is one.
local function place_copy(key, arguments, entity, is_here)
  local given, gone, lasts = {}, {}, is_here and entity.expires == ''
  local stored = is_here and redis.pcall('HGETALL', key) or {}
  if stored.err then return stored end
  if lasts and not redis.acl_check_cmd then
    -- Redis 6.2 cannot be asked whether the user may. Later ones were; there HSET goes first, since full memory refuses
    -- a first write alone.
    local reply = redis.pcall('PERSIST', key)
    if type(reply) == 'table' then return reply end
  end
  -- What is stored goes after the new fields have come: where memory is full, nothing has been lost then.
  for first = entity.first, entity.last, 4000 do
    local reply = redis.pcall('HSET', key, unpack(arguments, first, math.min(first + 3999, entity.last)))
    if type(reply) == 'table' then return reply end
  end
  for position = entity.first, entity.last, 2 do given[arguments[position]] = true end
  for position = 1, #stored, 2 do
    if not given[stored[position]] then gone[#gone + 1] = stored[position] end
  end
  for first = 1, #gone, 4000 do
    redis.call('HDEL', key, unpack(gone, first, math.min(first + 3999, #gone)))
  end
  if entity.expires ~= '' then redis.call('PEXPIREAT', key, entity.expires)
  elseif lasts then redis.call('PERSIST', key) end
  return nil
end
