-- @include fields
-- @include served
-- @include values
-- The answer for a known entity to a read of features by name, or of a service: their array, behind the service's
-- digest; with metadata a table, as reply_of has it. Also how many values were made of fields. `parts` is as in
-- pack_values.
-- The answer is nil if the entity has expired or has no hash: Redis has evicted it, or something else than
-- delete_entity has removed it. Such an entity is unknown, although it is in the set of members; sweep_members takes it
-- out.
local function answer_by_names(key, wanted, parts)
  local count = #wanted.names
  local values, event_time, packed = cast_fields(key, wanted)
  if not event_time and not next(values) and is_none(key) then return nil, 0 end
  if not wanted.timed and not wanted.windows then return pack_values(values, wanted, parts), count end
  -- @include read_state
  -- @include row_times
  local base = stored_time(event_time)
  if is_expired(wanted, base) then return nil, count end
  local serving = begin_serving(wanted, base, times_in_row(packed))
  serve(values, wanted, serving)
  if not wanted.metadata then return pack_values(values, wanted, parts), count end
  return reply_of(pack_values(values, wanted), serving), count
end
