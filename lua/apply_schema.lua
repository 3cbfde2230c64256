--[[
Declares features. Additive: what is declared already stays, new features go to the end of the declared order, and a
change of type is refused, since stored values would contradict it. Options of a feature or of the entity may change.

KEYS[1]  schema    a hash: the schema, at ENTITY:schema: one field a feature with its type; `@version`, a counter;
                   `@features`, a JSON array of name, type … in declared order; `@rules`, a JSON array of the options
                   that matter to rows, as word, value …; `@layout`, a digest of both; other options as fields of their
                   own; and `@digest:NAME`, a digest of what a service lists. Digests are `@` and 7 digits
KEYS[2]  schemas   optional: a set: the keys of all schemas, which the first one is added to, so that a server can tell
                   what entities there are

ARGV[1…] words     name, type, name, type …: type is float, int, bool, string; float32[N], a vector of 1 to 2048
                   numbers; count(SPAN) or sum(FIELD, SPAN), a sliding window over events, with a SPAN such as 10m or
                   1h. Naming a feature takes back its options. In a name's place may stand an option, with its value in
                   the type's; an empty value takes it back:
                   @ttl               ms after its event time when an entity is unknown again
                   @max_age           ms after its event time when a value is not served any more
                   @max_age:FEATURE   the same for one feature
                   @default:FEATURE   text of the value that is served where there is none
                   @always:FEATURE    any text: this vector is in the packed row and read with the other features
                   @service:NAME      JSON array of feature names that are read under that name: those of this
                                      schema, declared before or in this call, and `entity:feature`, which is not
                                      checked here
                   @log:NAME          what is kept of what that service was served: a JSON object with `sample`, which
                                      part of the requests, above 0 and at most 1, and `keep_ms` or `max_entries`
                                      or both, in a stream (log_served). Naming a service takes back its log
                   @tombstone         ms that the tombstone of a deleted entity stays
                   @max_ahead         ms that an event time may be ahead of Redis's clock; a day if not given
                   @join_key, @members   the name of the id in tables; the set of all known ids: for callers
                   @partitions        in a cluster, how many partitions the entity has; it never changes
                   @description, @owner, @tags   what people are told of the entity: text of at most 2,000 and 200
                                      bytes; a JSON array of at most 20 texts of at most 64 bytes
                   @description:FEATURE, @owner:FEATURE, @tags:FEATURE   the same of one feature
                   @dry_run           any text: nothing is stored; the reply is the version that there would be

Reply    the schema's version: one more than before when something changed, else as it was.
Errors   BADARGS (also for a name, type or option that is not allowed, for a feature that is being retired, and where
         the entity is being dropped), TYPECHANGE, UNDECLARED (the feature of an
         option or a service), and Redis's own (NOPERM, OOM, READONLY, WRONGTYPE). After an error nothing has been
         written.
Cost     O(features)
]]
local function apply_schema(KEYS, ARGV)
  -- @include declare_feature
  -- @include permissions
  -- @include service_digest
  -- @include set_option
  -- @include stored_schema
  -- @include text
  -- @include usage
  -- @include wrong_schema_key
  local MOST = 1000
  if #KEYS < 1 or #KEYS > 2 or #ARGV == 0 or #ARGV % 2 ~= 0 then
    return usage('1 key (schema) or 2 (and the set of all), then name and type of each feature', KEYS, ARGV)
  end
  local failure = wrong_schema_key(KEYS[1])
  if failure then return failure end
  local schema
  schema, failure = load_schema(KEYS[1])
  if failure then return failure end
  if schema.before['@dropping'] then
    return redis.error_reply('BADARGS the entity of ' .. shown(KEYS[1]) .. ' is being dropped: featurestore drop-entity'
      .. ' goes on with that, and then it can be declared again')
  end
  local dry_run = false
  for position = 1, #ARGV, 2 do
    local word, value = ARGV[position], ARGV[position + 1]
    local option, name = string.match(word, '^@([%a_]+):?(.*)$')
    local wrong
    if word == '@dry_run' then dry_run = value ~= ''
    elseif option and string.sub(word, -1) == ':' then wrong = 'BADARGS no such option: ' .. shown(word)
    elseif option then wrong = set_option(schema, word, option, name, value)
    else wrong = declare_feature(schema, word, value) end
    if wrong then return redis.error_reply(wrong) end
  end
  for position = 1, #ARGV, 2 do -- declarations may follow the service that lists them
    local word = ARGV[position]
    local service = string.match(word, '^@service:(.*)$')
    local wrong = service and set_digest(schema, service, schema.plain[word])
    local logged = not wrong and string.match(word, '^@log:(.*)$')
    if logged and schema.plain[word] ~= '' then
      local list = schema.plain['@service:' .. logged] or schema.before['@service:' .. logged] or ''
      if list == '' then wrong = 'UNDECLARED ' .. shown(logged) .. ' is no service, so nothing is kept for it' end
    end
    if wrong then return redis.error_reply(wrong) end
  end
  local join_key = schema.join_key
  if schema.declared[join_key] then
    return redis.error_reply('BADARGS ' .. join_key .. ' is the name of the id (@join_key), and cannot be a feature'
      .. ' too')
  end
  if #schema.features > 2 * MOST then
    return redis.error_reply('BADARGS a schema has at most ' .. MOST .. ' features')
  end
  if KEYS[2] and not string.find(KEYS[2], 'featurestore:schemas$') then
    return redis.error_reply('BADARGS the set of all schemas is featurestore:schemas, not ' .. shown(KEYS[2]))
  end
  if dry_run then return store_schema(KEYS[1], schema, true) end
  for _, command in ipairs({ 'HSET', 'HDEL' }) do
    failure = refusal(KEYS[1], command, KEYS[1], '@', command == 'HSET' and '' or '@')
    if failure then return failure end
  end
  if KEYS[2] then
    local added = redis.pcall('SADD', KEYS[2], KEYS[1])
    if type(added) == 'table' then return added end
  end
  return store_schema(KEYS[1], schema)
end
