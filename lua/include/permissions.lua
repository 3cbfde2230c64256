-- The error reply to a caller who may not call a command that writes; nil where he may. Redis 6.2 cannot be asked. The
-- command is called there so that it fails for what it asks of the hash at the key `hash`, if not for want of the
-- permission. DEL, UNLINK and PERSIST have no such form, and are not tried.
local function refusal(hash, command, key, ...)
  if redis.acl_check_cmd then
    if redis.acl_check_cmd(command, key, ...) then return nil end
    return redis.error_reply('NOPERM this write needs ' .. command .. ', which the user may not call: nothing has been'
      .. ' written')
  end
  if command == 'DEL' or command == 'UNLINK' or command == 'PERSIST' then return nil end
  -- A name without a value; a set's command, a time that is none, a field that there never is.
  local words = command == 'HSET' and { '@', '', '@' } or { '@' }
  local reply = redis.pcall(command, hash, unpack(words))
  -- The command's own errors come plainly; others say where they were caught, full memory too.
  return type(reply) == 'table' and reply.err and string.find(reply.err, 'user_script', 1, true) and reply or nil
end
