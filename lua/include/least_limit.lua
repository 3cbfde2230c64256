-- How old the first value of a complete row may grow before the row must not be served as it is; nil for any age.
local function least_limit_of(declared)
  local least
  for slot = 1, #declared.names do
    local limit = declared.limits[slot]
    if limit and (not least or limit < least) then least = limit end
  end
  return least
end
