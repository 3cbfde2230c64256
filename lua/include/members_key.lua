-- @include key_form
-- The key of the set of ids beside the schema at `key`, where the schema does not name another: `all_users` beside
-- `user:schema`.
local function members_beside(key)
  return (string.gsub(key, '([%w_-]+):' .. SCHEMA_END .. '$', 'all_%1s'))
end
