--[[
Keeps what a service was served, for training: an entry of a stream for each row. How much is kept is told by the
schema (`@log:NAME` of apply_schema); which requests are among the sample is up to the caller.

KEYS[1]  schema    a hash: the schema that has the service
KEYS[2]  stream    a stream: ENTITY:SERVICE:served, beside the schema. An entry has the fields `request`, `schema`,
                   `entities` and `statuses`, as in ARGV, and one whose name is the columns and whose value the row

ARGV[1]  service   its name
ARGV[2]  columns   a JSON array of name, type, name, type … of the features, in the order of every row
ARGV[3]  version   of the schema by which they were served
then     rows      1 to 500, with 4 words each: the id of the request, empty for none; a JSON object, entity → [id,
                   event time in ms or null]; a letter for each feature: P present, M missing, D default, S stale, and
                   p or m for a value that the request passed, m where that is nil; and a msgpack array of the values
                   as they were served

Reply    how many entries were added: as many as rows, or 0 where the schema keeps nothing for that service now.
Errors   BADARGS, NOSCHEMA, and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE). After an error nothing has been written.
Cost     O(rows)
]]
local function log_served(KEYS, ARGV)
  -- @include clock
  -- @include key_form
  -- @include permissions
  local WORDS = 4
  local rows = (#ARGV - 3) / WORDS
  if #KEYS ~= 2 or rows < 1 or rows > 500 or rows ~= math.floor(rows) then
    -- @include usage
    return usage('2 keys (schema, stream), then service, columns, version, and 4 words for each of 1 to'
      .. ' 500 rows', KEYS, ARGV)
  end
  local service, columns, version = ARGV[1], ARGV[2], ARGV[3]
  if KEYS[2] ~= string.sub(KEYS[1], 1, -1 - #SCHEMA_END) .. service .. ':served' then
    -- @include text
    return redis.error_reply('BADARGS the stream of ' .. shown(service) .. ' is ENTITY:SERVICE:served beside the'
      .. ' schema, not ' .. shown(KEYS[2]))
  end
  local stored = redis.pcall('HMGET', KEYS[1], '@log:' .. service, '@layout')
  if stored.err then return stored end
  if not stored[2] then
    -- @include no_schema
    return no_schema(KEYS[1])
  end
  if not stored[1] then return 0 end
  local log = cjson.decode(stored[1])
  local oldest = log.keep_ms and string.format('%.0f', math.max(0, now() - log.keep_ms))
  local by, bound = 'MINID', oldest
  if log.max_entries then
    by, bound = 'MAXLEN', string.format('%.0f', log.max_entries)
    local failure = oldest and redis.acl_check_cmd and refusal(KEYS[2], 'XTRIM', KEYS[2], 'MINID', '0')
    if failure then return failure end
  end
  for position = 4, #ARGV, WORDS do
    -- Before any other write: where memory is full, the first one is refused, and no later one.
    local reply = redis.pcall('XADD', KEYS[2], by, '~', bound, '*', 'request', ARGV[position], 'schema',
      version, 'entities', ARGV[position + 1], 'statuses', ARGV[position + 2], columns, ARGV[position + 3])
    if type(reply) == 'table' then return reply end
  end
  if log.max_entries and oldest then redis.pcall('XTRIM', KEYS[2], 'MINID', '~', oldest) end
  -- A stream that nobody adds to any more goes, too.
  if oldest then redis.pcall('PEXPIRE', KEYS[2], string.format('%.0f', log.keep_ms))
  else redis.pcall('PERSIST', KEYS[2]) end
  return rows
end
