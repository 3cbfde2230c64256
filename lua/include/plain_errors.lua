-- The reply of a script on Redis 6.2, which puts the script's line in front of errors of commands, and has no code for
-- a missing permission: the error as Redis 7 has it. `fine` is false where `reply` is an error that was thrown.
local function with_plain_error(fine, reply)
  local text = not fine and reply or (type(reply) == 'table' and reply.err)
  if not text then return reply end
  local cut, lines = text
  repeat cut, lines = string.gsub(cut, '^@?user_script: ?%d+: ', '') until lines == 0
  cut = string.gsub(cut, '^=%[C%]: %-1: ', '')
  if cut == text then return reply end
  cut = string.gsub(cut, '^%-', '')
  if string.find(cut, '^The user executing the script') then cut = 'NOPERM ' .. cut end
  return redis.error_reply(cut)
end
