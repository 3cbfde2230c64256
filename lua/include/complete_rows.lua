-- The words of complete rows, a msgpack array of `count` strings; nil where `text` is something else.
local function unpack_words(text, count)
  local is_array, words = pcall(cmsgpack.unpack, text)
  return is_array and type(words) == 'table' and #words == count and words or nil
end

-- Whether the names are those of the schema's features, none of them a window.
local function are_all_features(names, declared)
  local given, wanted, extras = {}, declared.names, declared.extras
  for column = 1, #names do given[names[column]] = true end
  for slot = 1, #wanted do
    if not given[wanted[slot]] then return false end
  end
  for position = 1, #extras do
    if not given[extras[position]] then return false end
  end
  return #names == #wanted + #extras and not declared.windows
end

-- Whether a key of the features of any row exists. Or nil and an error reply.
local function is_any_stored(keys)
  for first = 3, #keys, 5000 do
    local existing = redis.pcall('EXISTS', unpack(keys, first, math.min(first + 4999, #keys)))
    if type(existing) == 'table' then return nil, existing end
    if existing > 0 then return true end
  end
  return false
end
