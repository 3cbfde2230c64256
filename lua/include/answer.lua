-- @include clock
-- @include fields
-- @include values
-- The answer for a known entity: a msgpack array of the selected features. With metadata it is a table of five: that
-- array, the event time, the age, the statuses (a letter each: Present, Missing, Default, Stale) and the event times.
-- So Redis sends times as integers, which no decoder turns into something else. `parts` is as in pack_values.
-- Returns nil if the entity has expired or has no hash: Redis has evicted it, or something else than delete_entity has
-- removed it. Such an entity is unknown, although it is in the set of members; sweep_members takes it out.
local function answer_of(key, selection, parts)
  local count = #selection.names
  local values, event_time, packed = cast_fields(key, selection)
  if not event_time and not next(values) and redis.call('TYPE', key).ok ~= 'hash' then return nil end
  if not selection.timed and not selection.windows then return pack_values(values, selection, parts) end
  -- @include read_state
  -- @include row
  -- @include window
  local base, times = stored_time(event_time), times_in_row(packed)
  if base and selection.ttl > 0 and now() > base + selection.ttl then return nil end
  local statuses, event_times, limits = {}, {}, selection.limits or {}
  for position = 1, count do
    local value, status, window = values[position], 'P', selection.windows and selection.windows[position]
    local time, limit = value ~= nil and (times[selection.names[position]] or base) or nil, limits[position]
    if selection.max_age and (not limit or selection.max_age < limit) then limit = selection.max_age end
    if window then
      if value == nil then status = 'D' end
      value = read_window(window, value, now())
    elseif value == nil then
      value = selection.defaults and selection.defaults[position]
      status = value == nil and 'M' or 'D'
    elseif time and limit and now() - time > limit then
      value, status = nil, 'S'
    end
    values[position], statuses[position], event_times[position] = value, status, time or false
  end
  if not selection.metadata then return pack_values(values, selection, parts) end
  local age = base and math.max(0, now() - base)
  return { pack_values(values, selection), base or false, age or false, table.concat(statuses), event_times }
end
