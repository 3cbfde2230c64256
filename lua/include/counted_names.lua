-- @include text
-- The error reply to names, behind the first `skipped`, that cannot be counted; nil where all can.
local function names_error(names, skipped, declared, events)
  local known = { ['@event_id'] = events }
  if events and not (declared.windows and next(declared.windows)) then
    return redis.error_reply('UNDECLARED no sliding window is declared in the schema')
  end
  for _, window in pairs(events and declared.windows or {}) do
    if window.field then known[window.field] = true end
  end
  for slot = 1, events and 0 or #declared.names do known[declared.names[slot]] = true end
  for extra = 1, events and 0 or #declared.extras do known[declared.extras[extra]] = true end
  for position = skipped + 1, #names do
    if not known[names[position]] then
      return redis.error_reply('UNDECLARED ' .. shown(names[position])
        .. (events and ' of an event is summed by no window' or ' is not declared in the schema'))
    end
  end
  return nil
end
