-- @include members_key
-- The key of the set of ids in the partition of a cluster whose schema is at `key`; `members` is the name that the
-- entity gives it, '' for none.
local function members_named(key, members)
  if members == '' then return members_beside(key) end
  return (string.match(key, '^{[^{}]*}') or '') .. members
end
