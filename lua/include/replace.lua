-- @include row_format
-- @include whole
-- Write the row in hand (columns.lua), which is complete, where nothing stored is in its way. Return the verdict; nil
-- where something may be in the way; or nil and an error reply.
local function replace(key, declared, columns, stored, time, checks)
  local fields, values, width = columns.fields, columns.values, #declared.names
  local pieces = declared.vectors or declared.wide -- the array is made of
  local head = columns.heads[time]
  if head == nil then
    head = head_at(time, declared, columns.least_limit)
    columns.heads[time] = head
  end
  if not head then return nil end
  if pieces or width == 0 then
    -- @include values
    fields[2] = head .. pack_values(values, declared)
  else
    fields[2] = head .. columns.array .. cmsgpack.pack(unpack(values, 1, width))
  end
  if checks then
    if in_the_way(stored, time) then return nil end
    if tonumber(stored[1] or nil) == time and stored[2] == fields[2] then
      if #declared.extras > 0 then return nil end -- whose values are to be compared
      return 'D'
    end
  end
  local name_count, added = #columns.names, redis.pcall('HSET', key, unpack(fields))
  if type(added) == 'table' then return nil, added end
  set_expiry(key, added, 2 + name_count, time, declared)
  local existed = added < name_count
  if checks then existed = stored[1] and stored[2] ~= DELETED end
  return existed and 'A' or 'C'
end
