-- @include bytes
-- @include strings
-- @include text
-- Whether `word` is a layout: that, or nil; and an error reply where it starts so and is none.
local function layout_named(word)
  if not word or byte(word) ~= AT_SIGN or word == '@event_time' then return nil end
  if #word == 8 and find(word, '^@[%da-f]+$') then return word end
  return nil, redis.error_reply('BADARGS ' .. shown(word) .. ' is no layout, which is @ and 7 lower-case'
    .. ' hexadecimal digits')
end
