-- An error reply where a write to entities' features must not take place: the set of ids is not the schema's, or the
-- caller lacks a permission. It is asked for before the first write, so that after an error nothing has been written.
-- `is_known` tells that no id will be added.
local function forbidden_write(keys, key, declared, is_known)
  if keys[1] ~= declared.members then
    -- @include foreign_members
    local failure = foreign_members(keys, declared.members)
    if failure then return failure end
  end
  local ask, expire = redis.acl_check_cmd, declared.ttl > 0
  local reads = #declared.extras == 0 or (ask and ask('HEXISTS', key, '@'))
  if ask and reads and ask('HSET', key, '@row', '') and (is_known or ask('SADD', keys[1], '')) then
    if expire and ask('PEXPIREAT', key, '1') or not expire and ask('PERSIST', key) then return nil end
  end
  -- @include permissions
  return (not reads and refusal(keys[2], 'HEXISTS', key, '@'))
    or refusal(keys[2], 'HSET', key, '@row', '') or (not is_known and refusal(keys[2], 'SADD', keys[1], ''))
    or (expire and refusal(keys[2], 'PEXPIREAT', key, '1') or not expire and refusal(keys[2], 'PERSIST', key)) or nil
end
