-- Whether the caller may call a command that writes. Redis 6.2 cannot be asked. There a call tells that cannot do
-- anything: it is refused for what it asks of the schema's key.
local function may(schema, command, key, ...)
  if redis.acl_check_cmd then return redis.acl_check_cmd(command, key, ...) end
  local reply
  if command == 'PERSIST' then reply = redis.pcall(command, schema)
  elseif command == 'DEL' then reply = redis.pcall(command, schema .. ':none')
  elseif command == 'HSET' then reply = redis.pcall(command, schema, '@', '', '@')
  else reply = redis.pcall(command, schema, '@') end
  return type(reply) ~= 'table' or not reply.err or not string.find(reply.err, 'The user executing', 1, true)
end

-- The error reply to a caller who may not call a command that writes.
local function forbidden(command)
  return redis.error_reply('NOPERM this write needs ' .. command .. ', which the user may not call: nothing has been'
    .. ' written')
end

-- An error reply where the caller lacks a permission that writing an entity's features takes. It is asked for before
-- the first write, so that after an error nothing has been written.
local function forbidden_write(keys, key, declared)
  if not may(keys[2], 'HSET', key, '@row', '') then return forbidden('HSET') end
  if not may(keys[2], 'SADD', keys[1], '') then return forbidden('SADD') end
  if declared.ttl > 0 then
    if not may(keys[2], 'PEXPIREAT', key, '1') then return forbidden('PEXPIREAT') end
  elseif not may(keys[2], 'PERSIST', key) then return forbidden('PERSIST') end
  return nil
end
