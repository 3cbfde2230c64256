-- The features that are being retired, as a schema's `@retiring` has them: name → token, the time of its retirement in
-- ms; and their names. Both are empty where there are none.
local function read_retiring(text)
  local tokens, names, words = {}, {}, text and cjson.decode(text) or {}
  for position = 1, #words, 2 do
    tokens[words[position]] = words[position + 1]
    names[#names + 1] = words[position]
  end
  return tokens, names
end
