-- The reply of a script on Redis 6.2, which puts the script's line in front of errors of commands, and has no code for
-- a missing permission: the error as Redis 7 has it. `fine` is false where `reply` is an error that was thrown.
local function with_plain_error(fine, reply)
  local text = not fine and reply or (type(reply) == 'table' and reply.err)
  if not text then return reply end
  text = string.gsub(string.gsub(text, '^.*user_script: ?%d+: ', ''), '^%-', '')
  if string.find(text, '^The user executing the script') then text = 'NOPERM ' .. text end
  return redis.error_reply(text)
end
