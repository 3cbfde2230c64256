--[[
Stores entities as another Redis holds them, to move a store: each hash as it is, and whether its id is known. What is
stored here and is newer stays, feature by feature.

KEYS[1]  members   a set: ids of all known entities
KEYS[2]  schema    a hash: the schema
KEYS[3…] hashes    the features of each entity, whose key carries its id

ARGV[1]  keeps     what stays of what is stored here: `newer`, features of a later event time than there; `same`, those
                   of the same event time too; `none`, nothing
then     entities  for each hash: the id; 1 where it is in the set of ids there, else 0; when the hash expires, in ms
                   since 1970, empty for never; how many fields it has; and name and value of each field

Reply    a letter for each entity: C created, A stored in place of what was here, P stored in part, since some of what
         is here stays, S all of it stays, W left, since the key holds no hash
Errors   BADARGS, NOSCHEMA, and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE for a members or schema key of another
         type). After an error the first entities may have been stored; to call again does no harm.
Cost     O(entities * fields)
]]
local function copy_entities(KEYS, ARGV)
  -- @include count
  -- @include merge_copy
  -- @include own_schema
  -- @include permissions
  -- @include place_copy
  -- @include read_state
  -- @include write_permissions
  local keeps, position, ids, entities = ARGV[1], 2, {}, {}
  local fit = keeps == 'newer' or keeps == 'same' or keeps == 'none'
  for row = 1, #KEYS - 2 do
    local field_count = parse_count(ARGV[position + 3], 50000)
    fit = fit and field_count and field_count > 0
    if not fit then break end
    ids[row] = ARGV[position]
    entities[row] = {
      known = ARGV[position + 1] == '1', expires = ARGV[position + 2], first = position + 4,
      last = position + 3 + 2 * field_count,
    }
    position = entities[row].last + 1
  end
  if not fit or #ids == 0 or #ARGV ~= position - 1 then
    -- @include usage
    return usage('keys members, schema, hash per entity; then newer, same or none, and for each entity its id, 1 or 0,'
      .. ' ms, n, and n fields with their values', KEYS, ARGV)
  end
  for row = 1, #ids do
    local expires = entities[row].expires
    if expires ~= '' and not (string.find(expires, '^%d+$') and #expires <= 15) then
      -- @include text
      return redis.error_reply('BADARGS a hash expires at a time in ms, not ' .. shown(expires))
    end
  end
  local declared, failure = own_schema(KEYS, ids, #ids)
  failure = failure or forbidden_write(KEYS, KEYS[3], declared) or refusal(KEYS[2], 'HDEL', KEYS[3], '@')
    or refusal(KEYS[2], 'SREM', KEYS[1], '') or refusal(KEYS[2], 'PERSIST', KEYS[3])
    or refusal(KEYS[2], 'PEXPIREAT', KEYS[3], '1')
  if failure then return failure end
  local members = redis.pcall('SCARD', KEYS[1])
  if type(members) == 'table' then return members end
  local letters = {}
  for row = 1, #ids do
    local key, entity, letter, reply = KEYS[2 + row], entities[row], 'W', nil
    local stored = read_state(key)
    if not stored.err then
      local is_here = redis.call('EXISTS', key) == 1
      if is_here and keeps ~= 'none' then
        letter, reply = merge_copy(key, declared, stored, ARGV, entity, keeps == 'newer')
      else letter = is_here and 'A' or 'C' end
      if letter == 'A' or letter == 'C' then reply = place_copy(key, ARGV, entity, is_here) end
      if reply then return reply end
      if letter ~= 'S' then
        redis.call((entity.known or letter == 'P') and 'SADD' or 'SREM', KEYS[1], ids[row])
      end
    end
    letters[row] = letter
  end
  return table.concat(letters)
end
