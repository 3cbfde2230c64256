-- What Redis 6.2 replies to a command that cannot do anything: it is refused for what it asks of the schema's key.
local function probe(schema, command)
  if command == 'PERSIST' then return redis.pcall(command, schema) end
  if command == 'DEL' then return redis.pcall(command, schema .. ':none') end
  if command == 'HSET' then return redis.pcall(command, schema, '@', '', '@') end
  return redis.pcall(command, schema, '@')
end

-- An error reply where the caller may not call a command that writes. Redis 6.2 cannot be asked. There the error of
-- full memory is told, too: a probe counts as a write, and after one Redis 6.2 lets a script go on.
local function forbidden(schema, command, key, ...)
  local may
  if redis.acl_check_cmd then
    may = redis.acl_check_cmd(command, key, ...)
  else
    local reply = probe(schema, command)
    local text = type(reply) == 'table' and reply.err or ''
    if string.find(text, '-OOM ', 1, true) then return reply end
    may = not string.find(text, 'The user executing', 1, true)
  end
  if may then return nil end
  return redis.error_reply('NOPERM this write needs ' .. command .. ', which the user may not call: nothing has been'
    .. ' written')
end

-- An error reply where the caller lacks a permission that writing an entity's features takes. It is asked for before
-- the first write, so that after an error nothing has been written.
local function forbidden_write(keys, key, declared)
  local failure = forbidden(keys[2], 'HSET', key, '@row', '') or forbidden(keys[2], 'SADD', keys[1], '')
  if failure then return failure end
  if declared.ttl > 0 then return forbidden(keys[2], 'PEXPIREAT', key, '1') end
  return forbidden(keys[2], 'PERSIST', key)
end
