-- @include clock
-- @include fields
-- @include read_state
-- @include row
-- @include row_format
-- @include row_values
-- @include schema
-- @include served
-- @include strings
-- @include values
-- Whether no value that is stored may be too old for a read.
local function are_young(serving)
  local max_age, oldest = serving.max_age, serving.base
  if not max_age then return true end
  for _, time in pairs(serving.times) do
    if not oldest or time < oldest then oldest = time end
  end
  return not oldest or now() - oldest <= max_age
end

-- The packed row whose array starts at `start` in what is stored, without the times before that.
local function row_from(packed, start, layout)
  return start == LAYOUT_BYTES + 1 and packed or layout .. sub(packed, start)
end

-- The packed row as it is served now, and how many values were made for it: it is what is stored where no value is
-- another one now. Or nil, nil and an error reply, where the schema is damaged.
local function make_row(key, wanted, packed, start, serving)
  local layout, values, before = wanted.row_layout, nil, nil
  if not wanted.whole then
    local whole, failure = read_layout(wanted.schema)
    if failure then return nil, nil, failure end
    whole.timed = nil -- the times are read already
    wanted.whole = whole
  end
  local whole = wanted.whole
  if start then values, before = values_in_row(key, packed, start, whole, serving) end
  if not values then
    values = cast_fields(key, whole)
    serve(values, whole, serving)
    return layout .. pack_values(values, whole), #whole.names
  end
  local is_changed = serve(values, whole, serving)
  for slot, value in pairs(before) do is_changed = is_changed or values[slot] ~= (value or nil) end
  local made = #whole.names / UNPACKED
  if not is_changed then return row_from(packed, start, layout), made end
  find_wide(values, whole)
  return layout .. pack_values(values, whole), made
end

-- The answer for a known entity to a read of the packed row, and of features that are named behind the layout; as
-- answer_by_names.
local function answer_by_layout(key, wanted)
  local count = #wanted.names
  local named, event_time, packed = cast_fields(key, wanted)
  if not packed and not event_time and not next(named) and redis.call('TYPE', key).ok ~= 'hash' then return nil, 0 end
  local base = stored_time(event_time)
  if is_expired(wanted, base) then return nil, count end
  local serving = begin_serving(wanted, base, times_in_row(wanted.timed and packed))
  local start, limit = find_array(packed, wanted.row_layout)
  local row, made, failure
  if start and not wanted.metadata and (limit == '' or now() <= tonumber(limit)) and are_young(serving) then
    row, made = row_from(packed, start, wanted.row_layout), 0
  else
    row, made, failure = make_row(key, wanted, packed, start, serving)
    if failure then return failure, 0 end
  end
  if count == 0 then return reply_of(row, serving), made end
  serve(named, wanted, serving)
  return reply_of(row, serving, pack_values(named, wanted)), made + count
end
