-- How old the first value of a complete row may grow before the row must not be served as it is; nil for any age.
local function least_limit_of(declared)
  local least
  for slot = 1, declared.limits and #declared.names or 0 do
    local limit = declared.limits[slot]
    if limit and (not least or limit < least) then least = limit end
  end
  return least
end

-- What stands before the array in a complete row of that event time; false when it would be too old already.
local function head_at(time, declared, least_limit)
  local limit = least_limit and time + least_limit
  if limit and limit < now() then return false end
  return limit and declared.layout .. time_text(limit) .. '|||' or declared.layout
end
