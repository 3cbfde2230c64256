-- @include answer
-- @include array_head
-- @include count
-- @include long_text
-- @include foreign_key
-- @include values
-- @include wanted
-- Read features by names and options, as get_features_batch is given them; return its reply, or an error reply.
local function read_batch(keys, arguments)
  local name_count, row_count = parse_count(arguments[1], 5000), #keys - 2
  if not name_count or row_count < 1 or row_count > 5000 or #arguments ~= 1 + name_count + row_count then
    -- @include usage
    return usage('keys members, schema, hash per id (1 to 5000); then n, n names or options, and an id per hash', keys,
      arguments, name_count and row_count > 0 and 1 + name_count + row_count)
  end
  local failure = foreign_key(keys, arguments, 1 + name_count, row_count)
  if failure then return failure end
  local selection
  selection, failure = read_wanted(keys[2], { unpack(arguments, 2, 1 + name_count) })
  if failure then return failure end
  local known = redis.pcall('SMISMEMBER', keys[1], unpack(arguments, 2 + name_count))
  if known.err then return known end
  if selection.digest or selection.metadata then
    for position = 1, row_count do
      known[position] = known[position] == 1 and answer_of(keys[2 + position], selection) or false
    end
    return known
  end
  local answers = { array_head(row_count) }
  for position = 1, row_count do
    local answer = known[position] == 1 and answer_of(keys[2 + position], selection, answers)
    answers[#answers + 1] = answer or NIL
  end
  return long_text(answers)
end
