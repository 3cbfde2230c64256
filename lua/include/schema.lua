-- @include kinds
-- @include schema_errors
-- @include selection
-- The features of the packed row, in declared order, as a selection with the row's `layout`. `extras` are the vectors
-- that are not in the row, and `others` their kinds; `max_ahead` tells in ms how far ahead of now an event time may be.
-- Or nil and an error reply.
local function read_layout(key)
  local stored = redis.pcall('HMGET', key, '@features', '@layout', '@rules', '@max_ahead')
  if stored.err then return nil, stored end
  if not stored[1] or not stored[2] then return nil, redis.error_reply(NOSCHEMA) end
  local declared, names, kinds, extras, others = cjson.decode(stored[1]), {}, {}, {}, {}
  local rules
  if stored[3] then
    -- @include rules
    rules = read_rules(stored[3])
  end
  for position = 1, #declared, 2 do
    local name, kind = declared[position], declared[position + 1]
    if #kind > LONGEST_SCALAR and vector_length(kind) and not (rules and rules.always[name]) then
      extras[#extras + 1], others[#others + 1] = name, kind
    else
      names[#names + 1], kinds[#kinds + 1] = name, kind
    end
  end
  local selection = make_selection(names, kinds, rules)
  selection.layout, selection.extras, selection.others = stored[2], extras, others
  selection.max_ahead = tonumber(stored[4] or 86400000) -- a day
  return selection
end
