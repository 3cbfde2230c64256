-- @include row_format
-- @include values
-- @include whole
-- Return a function that writes a complete row where nothing stored is in its way: `replace(key, stored, time,
-- checks)`, from what the cells' reader has put into `fields` and `values`. It returns the verdict; nil where something
-- may be in the way; or nil and an error reply.
local function replacer(declared, columns, fields, values)
  local width, vectors, name_count = #declared.names, declared.vectors, #columns.names
  local least_limit, array, pack = least_limit_of(declared), array_head(width), cmsgpack.pack
  local heads = {} -- event time → what a complete row starts with

  return function(key, stored, time, checks)
    local head = heads[time]
    if head == nil then
      head = head_at(time, declared, least_limit)
      if head and not vectors then head = head .. array end
      heads[time] = head
    end
    if not head then return nil end
    if vectors then fields[2] = head .. pack_values(values, width, vectors)
    elseif width == 0 then fields[2] = head
    else fields[2] = head .. pack(unpack(values, 1, width)) end
    if checks then
      if in_the_way(stored, time) then return nil end
      if tonumber(stored[1] or nil) == time and stored[2] == fields[2] then
        if #declared.extras > 0 then return nil end -- whose values are to be compared
        return 'D'
      end
    end
    local added = store_whole(key, fields, time, declared)
    if type(added) == 'table' then return nil, added end
    local existed = added < name_count
    if checks then existed = stored[1] and stored[2] ~= DELETED end
    return existed and 'A' or 'C'
  end
end
