-- @include text
-- The error reply where no schema is stored at the key.
local function no_schema(key)
  return redis.error_reply('NOSCHEMA no schema is stored at ' .. shown(key)
    .. ': featurestore apply FILE declares features')
end
