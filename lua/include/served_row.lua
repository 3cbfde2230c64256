-- @include clock
-- @include fields
-- @include read_state
-- @include row_from
-- @include row_times
-- @include row_values
-- @include schema
-- @include served
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

-- All features of the row, as a selection, which is read once for a call. Or nil and an error reply: the schema is
-- damaged.
local function whole_of(wanted)
  if not wanted.whole then
    local whole, failure = read_layout(wanted.schema)
    if failure then return nil, failure end
    whole.timed = wanted.timed
    local windows = 0
    for _ in pairs(whole.windows or {}) do windows = windows + 1 end
    whole.summed = windows * SUMMED
    wanted.whole = whole
  end
  return wanted.whole
end

-- The packed row as it is served now, and how many values were made for it: it is what is stored where no value is
-- another one now. `start` is where the array starts in the row `packed` that is stored, nil where it is not of the
-- layout.
local function make_row(key, wanted, packed, start, serving)
  local whole, layout, values, before = wanted.whole, wanted.row_layout, nil, nil
  if start then values, before = values_in_row(key, packed, start, whole, serving) end
  if not values then
    values = cast_fields(key, whole)
    serve(values, whole, serving)
    return layout .. pack_values(values, whole), #whole.names + whole.summed
  end
  local is_changed = serve(values, whole, serving)
  for slot, value in pairs(before) do is_changed = is_changed or values[slot] ~= (value or nil) end
  local made = #whole.names / UNPACKED + whole.summed
  if not is_changed then return row_from(packed, start, layout), made end
  local wide = whole.wide -- is true of windows, which need not be
  whole.wide = are_wide(values, whole)
  local row = layout .. pack_values(values, whole)
  whole.wide = wide
  return row, made
end

-- What answer_by_layout answers where times matter, or the stored row may not be handed on: `may_serve` tells whether
-- it may, but for the age of its values.
local function answer_served(key, wanted, named, event_time, packed, start, may_serve)
  local count = #wanted.names
  if not packed and not event_time and not next(named) and is_none(key) then return nil, 0 end
  local base = stored_time(event_time)
  if is_expired(wanted, base) then return nil, count end
  local serving = begin_serving(wanted, base, times_in_row(wanted.timed and packed))
  local row, made
  if may_serve and are_young(serving) then row, made = row_from(packed, start, wanted.row_layout), 0
  else
    local _, failure = whole_of(wanted)
    if failure then return failure, 0 end
    row, made = make_row(key, wanted, packed, start, serving)
  end
  if count == 0 then return reply_of(row, serving), made end
  serve(named, wanted, serving)
  return reply_of(row, serving, pack_values(named, wanted)), made + count
end

-- The answer for a known entity to a read of the packed row alone, where no row of the layout is stored; as
-- answer_by_names.
local function answer_by_fields(key, wanted)
  local whole, failure = whole_of(wanted)
  if failure then return failure, 0 end
  local values, event_time, packed = cast_fields(key, whole)
  if not event_time and not next(values) and is_none(key) then return nil, 0 end
  if whole.timed or whole.windows then
    local base = stored_time(event_time)
    if is_expired(wanted, base) then return nil, #whole.names end
    serve(values, whole, begin_serving(wanted, base, times_in_row(packed)))
  end
  return wanted.row_layout .. pack_values(values, whole), #whole.names + whole.summed
end
