-- Make ids known: add them to the set at `key`.
local function add_members(key, ids)
  for first = 1, #ids, 5000 do
    redis.call('SADD', key, unpack(ids, first, math.min(first + 4999, #ids)))
  end
end
