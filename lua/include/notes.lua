-- @include text
-- What is told of an entity or of a feature, and how many bytes that may have.
local NOTES = { description = 2000, owner = 200, tags = 2000 }

-- What is wrong with the value of one of them, or nil.
local function note_error(word, option, value)
  local MOST_TAGS, LONGEST_TAG = 20, 64
  if #value > NOTES[option] then
    return 'BADARGS ' .. shown(word) .. ' wants at most ' .. NOTES[option] .. ' bytes, not ' .. #value
  end
  if option ~= 'tags' or value == '' then return nil end
  local fine, tags = pcall(cjson.decode, value)
  fine = fine and type(tags) == 'table' and #tags > 0 and #tags <= MOST_TAGS
  for position = 1, fine and #tags or 0 do
    local tag = tags[position]
    fine = fine and type(tag) == 'string' and tag ~= '' and #tag <= LONGEST_TAG
  end
  if fine then return nil end
  return 'BADARGS ' .. shown(word) .. ' wants a JSON array of 1 to ' .. MOST_TAGS .. ' texts of at most ' .. LONGEST_TAG
    .. ' bytes'
end
