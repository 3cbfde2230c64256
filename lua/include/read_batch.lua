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
  local wanted
  wanted, failure = read_wanted(keys[2], { unpack(arguments, 2, 1 + name_count) })
  if failure then return failure end
  local known = redis.pcall('SMISMEMBER', keys[1], unpack(arguments, 2 + name_count))
  if known.err then return known end
  local answer = answer_by_names
  if wanted.row_layout then
    -- @include row_answer
    answer = answer_by_layout
  end
  if wanted.most then
    -- @include rationed
    answer = rationed(wanted.most, answer)
  end
  if wanted.row_layout or wanted.digest or wanted.metadata then
    for position = 1, row_count do
      local row = known[position] == 1 and answer(keys[2 + position], wanted) or false
      if row and row ~= 0 and row.err then return row end -- no string has `err`
      known[position] = row
    end
    return known
  end
  local answers = { array_head(row_count) }
  for position = 1, row_count do
    local row = known[position] == 1 and answer(keys[2 + position], wanted, answers)
    answers[#answers + 1] = row or NIL
  end
  return long_text(answers)
end
