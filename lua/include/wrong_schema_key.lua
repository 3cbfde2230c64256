-- @include key_form
-- @include text
-- An error reply where a key is not formed like that of a schema.
local function wrong_schema_key(key)
  if string.find(key, '[^:]:' .. SCHEMA_END .. '$') then return nil end
  return redis.error_reply('BADARGS the key of a schema is ENTITY:schema, not ' .. shown(key))
end
