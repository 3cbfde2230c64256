-- An error reply where the key of the set of ids is not the one that the schema has. Writes look, since they add to the
-- set and take out of it; `members` is the schema's `@members_key`.
local function foreign_members(keys, members)
  if keys[1] == members then return nil end
  -- @include members_key
  -- @include text
  members = members or members_beside(keys[2]) -- an older build has applied the schema
  if keys[1] == members then return nil end
  return redis.error_reply('BADARGS the set of ids is ' .. shown(members) .. ', not ' .. shown(keys[1]))
end
