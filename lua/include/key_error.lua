-- @include key_form
-- @include text
-- What is wrong with a key that is not the one of the features of `id`, beside the schema's key.
local function key_error(schema, id, key)
  local prefix = string.match(schema, '^(.*)' .. SCHEMA_END .. '$')
  if not prefix then return 'the second key is the schema, ENTITY:schema, not ' .. shown(schema) end
  local own = shown(prefix .. id .. AFTER_ID)
  return 'the key of the features of ' .. shown(id) .. ' is ' .. own .. ', not ' .. shown(key)
end
