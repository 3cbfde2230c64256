-- @include clock
-- What is served of an entity, by what a read wants (wanted.lua):
--   base, times   its event time, and those of its features that differ from it
--   letters       of each feature one: Present, Missing, Default, Stale; nil where the read wants no metadata
--   event_times   of each feature, false for none
local function begin_serving(wanted, base, times)
  local serving = { base = base, times = times, max_age = wanted.max_age, letters = nil, event_times = nil }
  if wanted.metadata then serving.letters, serving.event_times = {}, {} end
  return serving
end

-- Whether the entity at a key is none, nothing having been read of it: no hash is stored there.
local function is_none(key) return redis.call('TYPE', key).ok ~= 'hash' end

-- Whether the entity has expired.
local function is_expired(wanted, base) return base and wanted.ttl > 0 and now() > base + wanted.ttl end

-- How old a value may be, by the schema and by the read; nil for any age.
local function most_age(limit, max_age)
  if max_age and (not limit or max_age < limit) then return max_age end
  return limit
end

-- Put what is served in the place of a selection's values, which are as they are stored: nil for what is too old,
-- defaults, and what windows hold now. Return whether a value was too old.
local function serve(values, selection, serving)
  local windows, limits, defaults, max_age = selection.windows, selection.limits, selection.defaults, serving.max_age
  local letters, event_times, base, times = serving.letters, serving.event_times, serving.base, serving.times
  if not letters and not windows and not limits and not max_age then return false end
  local names, first, has_stale, window_total = selection.names, letters and #letters, false, nil
  if windows then
    -- @include window
    window_total = read_window
  end
  for position = 1, #names do
    local value, letter = values[position], 'P'
    local time = value ~= nil and (times[names[position]] or base) or nil
    if windows and windows[position] then
      if value == nil then letter = 'D' end
      values[position] = window_total(windows[position], value, now())
    elseif value == nil then
      value = defaults and defaults[position]
      values[position], letter = value, value == nil and 'M' or 'D'
    elseif time then
      local most = most_age(limits and limits[position], max_age)
      if most and now() - time > most then values[position], letter, has_stale = nil, 'S', true end
    end
    if letters then letters[first + position], event_times[first + position] = letter, time or false end
  end
  return has_stale
end

-- The reply for an entity: its row, or with metadata a table of that, the event time, the age, the letters and the
-- event times, so that Redis sends times as integers, which no decoder turns into something else. `named` is the array
-- of the features that are named behind a layout; nil for none.
local function reply_of(row, serving, named)
  local base, letters = serving.base, serving.letters
  if not letters then return named and { row, named } or row end
  local age = base and math.max(0, now() - base)
  return { row, base or false, age or false, table.concat(letters), serving.event_times, named }
end
