-- @include longest_scalar
-- @include array_head
-- The columns of an upsert's rows, for the features in `names`, and the row in hand:
--   names, slots, kinds    of each column: the feature, its slot in the entity (entity.lua), its kind
--   whole                  whether rows give every feature, unless they have marks
--   remembered, misses     of each column: text → value, or false where none is remembered; how many were not
--   fields                 what HSET takes for the row in hand: @row, its packed row, @event_time, its time, and each
--                          column's name and text. One table serves all rows: the names stay
--   values                 slot → value of the row in hand
--   heads, least_limit     what complete rows of a time start with, and how old they may grow (whole.lua)
--   array                  the head of the packed row's array
--   declared               the schema's features
-- Or nil and an error reply.
local function place_columns(names, declared)
  local width, total, slot_of, taken = #declared.names, #declared.names + #declared.extras, {}, {}
  for slot = 1, total do slot_of[declared.names[slot] or declared.extras[slot - width]] = slot end
  local slots, kinds, remembered, misses, fields = {}, {}, {}, {}, { '@row', '', '@event_time', '' }
  for column = 1, #names do
    local name = names[column]
    local slot = slot_of[name]
    if not slot or taken[slot] then
      -- @include text
      local wrong = slot and 'BADARGS ' .. shown(name) .. ' is named twice'
        or (name == '@event_time' and 'BADARGS @event_time stands before the names of features')
      return nil, redis.error_reply(wrong or 'UNDECLARED ' .. shown(name) .. ' is not declared in the schema')
    end
    local kind = declared.kinds[slot] or declared.others[slot - width]
    taken[slot], slots[column], kinds[column], misses[column] = true, slot, kind, 0
    remembered[column] = kind ~= 'bool' and #kind <= LONGEST_SCALAR and {}
    fields[3 + 2 * column], fields[4 + 2 * column] = name, ''
  end
  local least_limit
  if declared.limits then
    -- @include least_limit
    least_limit = least_limit_of(declared)
  end
  return {
    names = names, slots = slots, kinds = kinds, whole = #names == total, remembered = remembered, misses = misses,
    fields = fields, values = {}, heads = {}, least_limit = least_limit, array = array_head(width),
    declared = declared,
  }
end
