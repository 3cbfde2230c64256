-- @include clock
-- @include time_text
-- What stands before the array in a complete row of that event time; false when it would be too old already.
local function head_at(time, declared, least_limit)
  local limit = least_limit and time + least_limit
  if limit and limit < now() then return false end
  return limit and declared.layout .. time_text(limit) .. '||' or declared.layout
end

-- Whether what is stored, as read_state has it, is in the way of a complete row of that time.
local function in_the_way(stored, time)
  local newest, floor = tonumber(stored[1] or nil), stored[3] and tonumber(stored[3])
  return (newest and newest > time) or (floor and floor >= time)
end

-- Set when an entity expires whose complete row HSET has just written; `added` of its `count` fields were new.
local function set_expiry(key, added, count, time, declared)
  if declared.ttl > 0 then redis.call('PEXPIREAT', key, time_text(time + declared.ttl))
  -- Some of the fields were there and some were not, as where an entity was deleted: its tombstone would expire.
  elseif declared.ttl_ended or (added > 0 and added < count) then redis.call('PERSIST', key) end
end
