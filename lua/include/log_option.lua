-- @include text
local function is_whole_from_1(number, most)
  return type(number) == 'number' and number >= 1 and number <= most and number == math.floor(number)
end

-- Whether a log's value is a JSON object of `sample` and one bound or both, or empty.
local function is_log(value)
  if value == '' then return true end
  local fine, log = pcall(cjson.decode, value)
  if not fine or type(log) ~= 'table' then return false end
  local sample, keep, most = log.sample, log.keep_ms, log.max_entries
  for name in pairs(log) do
    if name ~= 'sample' and name ~= 'keep_ms' and name ~= 'max_entries' then return false end
  end
  return type(sample) == 'number' and sample > 0 and sample <= 1 and (keep ~= nil or most ~= nil)
    and (keep == nil or is_whole_from_1(keep, 9999999999999)) and (most == nil or is_whole_from_1(most, 1e9))
end

-- What is wrong with what is to be kept of a service, or nil. `value` is nil where the word names no service.
local function log_error(word, value)
  if value and is_log(value) then return nil end
  return 'BADARGS ' .. shown(word) .. ' wants a JSON object with sample, above 0 and at most 1, and keep_ms or'
    .. ' max_entries or both, which are whole; its name is @log:SERVICE'
end
