-- The error reply to a caller who may not call a command that writes; nil where he may. Redis 6.2 cannot be asked. A
-- call tells there that cannot do anything, for what it asks of a hash, the one at the key `hash`.
local function refusal(hash, command, key, ...)
  if redis.acl_check_cmd then
    if redis.acl_check_cmd(command, key, ...) then return nil end
    return redis.error_reply('NOPERM this write needs ' .. command .. ', which the user may not call: nothing has been'
      .. ' written')
  end
  local reply
  if command == 'PERSIST' then reply = redis.pcall(command, hash)
  elseif command == 'DEL' then reply = redis.pcall(command, hash .. ':none')
  elseif command == 'HSET' then reply = redis.pcall(command, hash, '@', '', '@')
  else reply = redis.pcall(command, hash, '@') end
  -- The command's own errors come plainly; others say where they were caught, full memory too.
  return type(reply) == 'table' and reply.err and string.find(reply.err, 'user_script', 1, true) and reply or nil
end
