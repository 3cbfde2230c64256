-- @include day
-- @include longest_scalar
-- @include selection
-- The features of the packed row, in declared order, as a selection with the row's `layout`. `extras` are the vectors
-- that are not in the row, and `others` their kinds; `max_ahead` tells in ms how far ahead of now an event time may be;
-- `members` is the key of the set of ids.
-- Or nil and an error reply.
local function read_layout(key)
  local stored = redis.pcall('HMGET', key, '@features', '@layout', '@rules', '@max_ahead', '@members_key')
  if stored.err then return nil, stored end
  if not stored[1] or not stored[2] then
    -- @include no_schema
    return nil, no_schema(key)
  end
  local declared, names, kinds, extras, others = cjson.decode(stored[1]), {}, {}, {}, {}
  local rules
  if stored[3] then
    -- @include rules
    rules = read_rules(stored[3])
  end
  for position = 1, #declared, 2 do
    local name, kind = declared[position], declared[position + 1]
    if #kind > LONGEST_SCALAR and string.sub(kind, 1, 8) == 'float32[' and not (rules and rules.always[name]) then
      extras[#extras + 1], others[#others + 1] = name, kind
    else
      names[#names + 1], kinds[#kinds + 1] = name, kind
    end
  end
  local selection = make_selection(names, kinds, rules)
  selection.layout, selection.extras, selection.others = stored[2], extras, others
  selection.max_ahead, selection.members = tonumber(stored[4] or DAY), stored[5]
  return selection
end
