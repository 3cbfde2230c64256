-- What is wrong with an entity's id, or nil.
local function id_error(id)
  if #id == 0 or #id > 256 then return 'an id is 1 to 256 bytes long' end
  return nil
end
