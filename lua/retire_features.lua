--[[
Takes features out of the schema: from now on nobody reads or writes them, and the layout is another. What hashes hold
of them stays until clear_hashes has been called for each; until free_names says so, no feature can be declared by such
a name, so that no old value and no old row comes back to life.

KEYS[1]  schema    a hash: the schema; `@retiring`, a JSON array of name, token …, tells which features are being
                   retired. A token is the time of that in ms, as text: free_names takes it

ARGV[1…] names     the features, 1 to 1000; those that are being retired already may be among them. An option may stand
                   before them: ?from_services takes them out of the services that list them; a service that lists
                   nothing else is removed

Reply    the schema's version: one more than before when something changed, else as it was.
Errors   BADARGS (also where a service lists a feature, and where more than 2000 features would be being retired:
         clear_hashes and free_names come first then), NOSCHEMA, UNDECLARED, and Redis's own (NOPERM, READONLY,
         WRONGTYPE). After an error nothing has been written.
Cost     O(features)
]]
local function retire_features(KEYS, ARGV)
  -- @include byte_order
  -- @include clock
  -- @include forget_features
  -- @include key_form
  -- @include no_schema
  -- @include permissions
  -- @include service_digest
  -- @include stored_schema
  -- @include text
  -- @include time_text
  -- @include usage
  -- @include wrong_schema_key
  local from_services = ARGV[1] == '?from_services'
  local first = from_services and 2 or 1
  if #KEYS ~= 1 or #ARGV < first or #ARGV > 1000 then
    return usage('1 key (schema), then the names of features (1 to 1000), with ?from_services before them or without',
      KEYS, ARGV)
  end
  local failure = wrong_schema_key(KEYS[1])
  if failure then return failure end
  local schema
  schema, failure = load_schema(KEYS[1])
  if failure then return failure end
  if not schema.before['@features'] then return no_schema(KEYS[1]) end

  local leaving, words = {}, {} -- the features that leave; what services may call them → true
  local prefix = string.sub(KEYS[1], 1, -2 - #SCHEMA_END) .. ':'
  if schema.before['@partitions'] then prefix = string.match(prefix, '[^:}]+:$') end -- without what leads to the slot
  for position = first, #ARGV do
    local name = ARGV[position]
    if schema.declared[name] then
      if not words[name] then leaving[#leaving + 1] = name end
      words[name], words[prefix .. name] = true, true
    elseif not schema.retiring[name] then
      return redis.error_reply('UNDECLARED ' .. shown(name) .. ' is not declared in the schema')
    end
  end
  if #leaving == 0 then return tonumber(schema.before['@version']) end
  local retiring = #leaving
  for _ in pairs(schema.retiring) do retiring = retiring + 1 end
  if retiring > 2000 then
    return redis.error_reply('BADARGS ' .. retiring .. ' features would be being retired, want at most 2000: '
      .. 'featurestore retire goes on with those of before, and makes their names free')
  end

  local blocking = {}
  for word, list in pairs(schema.before) do
    local service = string.match(word, '^@service:(.*)$')
    local listed, kept = service and cjson.decode(list) or {}, {}
    for position = 1, #listed do
      if not words[listed[position]] then kept[#kept + 1] = listed[position] end
    end
    if #kept < #listed then
      blocking[#blocking + 1] = service
      schema.plain[word] = #kept > 0 and cjson.encode(kept) or ''
      if #kept == 0 then schema.plain['@log:' .. service] = '' end
    end
  end
  if #blocking > 0 and not from_services then
    table.sort(blocking, is_before)
    return redis.error_reply('BADARGS services list what is to be retired (?from_services takes it out of them): '
      .. shown(table.concat(blocking, ', ')))
  end
  for _, command in ipairs({ 'HDEL', 'HSET' }) do
    failure = refusal(KEYS[1], command, KEYS[1], '@', command == 'HSET' and '' or '@')
    if failure then return failure end
  end

  forget_features(schema, leaving, time_text(now()))
  for position = 1, #blocking do
    set_digest(schema, blocking[position], schema.plain['@service:' .. blocking[position]])
  end
  -- The first write is refused where none is taken. Once it was taken, full memory keeps nothing out.
  local reply = redis.pcall('HDEL', KEYS[1], unpack(leaving))
  if type(reply) == 'table' then return reply end
  return store_schema(KEYS[1], schema)
end
