-- @include clock
-- @include parse
-- @include served
-- @include unpack_array
-- So many values that are unpacked from a stored row count as one that is made of its field.
local UNPACKED = 4

-- A window that is added up counts for so many.
local SUMMED = 16

-- The slots whose values a stored row does not tell, `values` being those that it has: windows; ints that a number of
-- Lua does not hold; values like the default, where it matters whether they are; none, where it may be one that was too
-- old already when the row was made.
local function untold_slots(values, whole, serving)
  local names, kinds, limits, defaults, windows = whole.names, whole.kinds, whole.limits, whole.defaults, whole.windows
  local base, times, slots = serving.base, serving.times, {}
  if whole.plain and not serving.max_age then return slots end
  for slot = 1, #names do
    local value, default, is_told = values[slot], defaults and defaults[slot], true
    if windows and windows[slot] then is_told = false
    elseif value == nil or value == default then
      local time, most = times[names[slot]] or base, most_age(limits and limits[slot], serving.max_age)
      local may_be_stale = time and most and now() - time > most
      if default == nil then is_told = not (serving.letters and may_be_stale)
      else is_told = not serving.letters and not may_be_stale end
    elseif kinds[slot] == 'int' and (value >= 2^53 or value <= -2^53) then is_told = false end
    if not is_told then slots[#slots + 1] = slot end
  end
  return slots
end

-- The values in the array that starts there in a stored row, as unpack_array, and the slots that it does not tell.
local function read_array(packed, start, whole, serving)
  local values = unpack_array(packed, start, whole)
  return values, values and untold_slots(values, whole, serving)
end

-- The values of the row's features as cast_fields has them: told by the array that starts at `start` in the stored row,
-- and fetched where it does not tell. Also slot → what the row has, false for nil, of those that were fetched. Or nil
-- where the array is not of the schema's features: something else may have written it.
local function values_in_row(key, packed, start, whole, serving)
  local fine, values, slots = pcall(read_array, packed, start, whole, serving)
  if not fine or not values then return nil end
  local before, names, windows = {}, {}, whole.windows
  if #slots == 0 then return values, before end
  for position = 1, #slots do names[position] = whole.names[slots[position]] end
  local texts = redis.call('HMGET', key, unpack(names))
  for position = 1, #slots do
    local slot, value = slots[position], texts[position] or nil
    before[slot] = values[slot] or false
    if value and not (windows and windows[slot]) then value = parse(whole.kinds[slot], value) end
    values[slot] = value
  end
  return values, before
end

-- Whether there are wide numbers (wide.lua) among values that were in a row.
local function are_wide(values, whole)
  local kinds = whole.kinds
  for slot = 1, #kinds do
    local value = values[slot]
    if type(value) == 'number' then
      if value >= 2^32 or value < -2^31 then return true end
    elseif kinds[slot] == 'int' and value then return true end
  end
  return false
end
