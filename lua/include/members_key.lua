-- @include key_form
-- The key of the set of ids beside the schema at `key`, where the schema does not name another: `all_users` beside
-- `user:schema`.
local function members_beside(key) return 'all_' .. string.sub(key, 1, -2 - #SCHEMA_END) .. 's' end
