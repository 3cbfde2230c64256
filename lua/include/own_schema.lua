-- @include foreign_key
-- @include schema
-- The schema (schema.lua) of a call whose first `count` words are the ids of its hashes. Or nil and an error reply,
-- where there is none or a key is not that of its id.
local function own_schema(keys, words, count)
  local failure = foreign_key(keys, words, 0, count)
  if failure then return nil, failure end
  return read_layout(keys[2])
end
