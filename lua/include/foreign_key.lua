-- @include key_form
-- An error reply where one of the `count` keys behind the first two is not that of its id, the word behind `before`.
local function foreign_key(keys, words, before, count)
  local prefix = string.sub(keys[2], 1, -1 - #SCHEMA_END)
  for position = 1, count do
    local key, id = keys[2 + position], words[before + position]
    if key ~= prefix .. id .. AFTER_ID then
      -- @include key_error
      return redis.error_reply('BADARGS ' .. key_error(keys[2], id, key))
    end
  end
  return nil
end
