-- The error reply to a call whose keys and arguments are not as many as `form` says. `count` tells how many arguments
-- there have to be, where the others and the keys tell that.
local function usage(form, keys, arguments, count)
  return redis.error_reply('BADARGS want ' .. form .. '; given ' .. #keys .. ' keys and ' .. #arguments
    .. ' arguments' .. (count and ', which should be ' .. count or ''))
end
