--[[
Declares features. Additive: what is declared already stays, new features go to the end of the declared order, and a
change of type is refused, since stored values would contradict it. Options of a feature or of the entity may change.

KEYS[1]  hash      the schema: one field a feature with its type; `@version`, a counter; `@features`, a JSON array of
                   name, type … in declared order; `@rules`, a JSON array of the options that matter to rows,
                   as word, value …; `@layout`, a digest of both; other options as fields of their own
KEYS[2]  set       optional: the keys of all schemas, which the first one is added to, so that a server can tell what
                   entities there are

ARGV[1…]           name, type, name, type …: type is float, int, bool, string; float32[N], a vector of 1 to 2048
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
                   @tombstone         ms that the tombstone of a deleted entity stays
                   @join_key, @members   the name of the id in tables; the set of all known ids: for callers

Reply    the schema's version: one more than before when something changed, else as it was.
Errors   BADARGS (also for a name, type or option that is not allowed), TYPECHANGE, UNDECLARED (the feature of an
         option or a service), and Redis's own. After an error nothing has been written.
Cost     O(features)
]]
-- @include parse
-- @include window
local MOST, NAME = 1000, '^[%a_][%w_.-]*$'
local REFERENCE = '^[%a_][%w_.:-]*$' -- a feature, or entity:feature
local TYPES = { float = true, int = true, bool = true, string = true }
local TIMES = { ttl = true, max_age = true, tombstone = true }
local PLAIN = { tombstone = true, service = true, join_key = true, members = true } -- do not matter to rows
local schema = KEYS[1]
if #KEYS < 1 or #KEYS > 2 or #ARGV == 0 or #ARGV % 2 ~= 0 then
  return redis.error_reply('BADARGS want 1 key (schema) or 2 (and the set of all), then name and type of each feature')
end
local stored = redis.pcall('HGETALL', schema)
if stored.err then return stored end
local before, declared, features, rules = {}, {}, {}, {}
for position = 1, #stored, 2 do
  local field, value = stored[position], stored[position + 1]
  before[field] = value
  if string.byte(field, 1) ~= 64 then declared[field] = value end
end
if before['@features'] then features = cjson.decode(before['@features']) end
local words = before['@rules'] and cjson.decode(before['@rules']) or {}
for position = 1, #words, 2 do rules[words[position]] = words[position + 1] end

local function is_type(kind)
  local length = vector_length(kind)
  if length then return length >= 1 and length <= 2048 and find(kind, '^float32%[[1-9]%d*%]$') end
  return TYPES[kind] or parse_window(kind) ~= nil
end

-- What is wrong with an option, or nil.
local function option_error(word, option, name, value)
  local of_feature = option == 'default' or option == 'always' or (option == 'max_age' and name ~= '')
  if of_feature and not declared[name] then return 'UNDECLARED ' .. shown(name) .. ' is not declared in the schema' end
  if option == 'service' then
    local fine, names = pcall(cjson.decode, value)
    fine = value == '' or (fine and type(names) == 'table' and #names > 0 and #names <= 5000)
    for position = 1, fine and value ~= '' and #names or 0 do
      fine = fine and type(names[position]) == 'string' and find(names[position], REFERENCE)
    end
    if not fine or not find(name, NAME) then
      return 'BADARGS ' .. shown(word) .. ' wants a JSON array of feature names'
    end
  elseif TIMES[option] and (option == 'max_age' or name == '') then
    if value ~= '' and (not string.find(value, '^%d+$') or #value > 13) then
      return 'BADARGS ' .. shown(word) .. ' wants ms, not ' .. shown(value)
    end
  elseif option == 'default' then
    if value ~= '' and (#declared[name] > 6 or parse(declared[name], value) == nil) then
      return 'BADARGS the default of ' .. name .. ' must be ' .. declared[name] .. ', not ' .. shown(value)
    end
  elseif option == 'always' then
    if value ~= '' and not vector_length(declared[name]) then return 'BADARGS ' .. shown(name) .. ' is no vector' end
  elseif name ~= '' or not PLAIN[option] then
    return 'BADARGS no such option: ' .. shown(word)
  end
  return nil
end

-- What is wrong with the features that a service lists, or nil. Declarations may follow the service in one call.
local function service_error(name, value)
  for _, feature in ipairs(value ~= '' and cjson.decode(value) or {}) do
    if not declared[feature] and not find(feature, ':', 1, true) then
      return 'UNDECLARED ' .. shown(feature) .. ' of service ' .. shown(name) .. ' is not declared in the schema'
    end
  end
  return nil
end

local fields, removed, join_key = {}, {}, before['@join_key'] or ''
for position = 1, #ARGV, 2 do
  local name, kind = ARGV[position], ARGV[position + 1]
  local option, of = string.match(name, '^@([%a_]+):?(.*)$')
  if option then
    local wrong = option_error(name, option, of, kind)
    if wrong then return redis.error_reply(wrong) end
    if name == '@join_key' then join_key = kind end
    if not PLAIN[option] then
      -- An entity's ttl that has ended is kept as 0, so that writes take the old one off its key.
      if name == '@ttl' and kind == '' and rules[name] then kind = '0' end
      rules[name] = kind ~= '' and kind or nil
    elseif kind == '' then
      if before[name] then removed[#removed + 1] = name end
    elseif before[name] ~= kind then
      fields[#fields + 1], fields[#fields + 2] = name, kind
    end
  else
    if #name > 128 or not string.find(name, NAME) then
      return redis.error_reply('BADARGS a feature name is a letter or _, then letters, digits, _ . - (at most 128): '
        .. shown(name))
    end
    if not is_type(kind) then
      return redis.error_reply('BADARGS type of ' .. name .. ' must be float, int, bool or string, float32[N],'
        .. ' count(SPAN) or sum(FIELD, SPAN)')
    end
    if not declared[name] then
      declared[name] = kind
      fields[#fields + 1], fields[#fields + 2] = name, kind
      features[#features + 1], features[#features + 2] = name, kind
    elseif declared[name] ~= kind then
      return redis.error_reply('TYPECHANGE ' .. name .. ' is declared as ' .. declared[name] .. ' and cannot become '
        .. kind .. ': declare a feature of another name')
    end
    for _, word in ipairs({ '@max_age:', '@default:', '@always:' }) do rules[word .. name] = nil end
  end
end
for position = 1, #ARGV, 2 do
  local service = string.match(ARGV[position], '^@service:(.*)$')
  local wrong = service and service_error(service, ARGV[position + 1])
  if wrong then return redis.error_reply(wrong) end
end
if declared[join_key] then
  return redis.error_reply('BADARGS ' .. join_key .. ' is the name of the id (@join_key), and cannot be a feature too')
end
if #features > 2 * MOST then
  return redis.error_reply('BADARGS a schema has at most ' .. MOST .. ' features')
end
words = {}
for word in pairs(rules) do words[#words + 1] = word end
table.sort(words)
for position = #words, 1, -1 do table.insert(words, position + 1, rules[words[position]]) end
local ruled = #words > 0 and cjson.encode(words) or nil
if ruled ~= before['@rules'] then
  if ruled then fields[#fields + 1], fields[#fields + 2] = '@rules', ruled else removed[#removed + 1] = '@rules' end
end
if KEYS[2] then
  local added = redis.pcall('SADD', KEYS[2], schema)
  if type(added) == 'table' then return added end
end
local version = tonumber(before['@version'] or 0)
if #fields > 0 or #removed > 0 then
  version = version + 1
  local order = #features > 0 and cjson.encode(features) or '[]'
  local layout = string.sub(redis.sha1hex(order .. (ruled or '')), 1, 8)
  redis.call('HSET', schema, '@version', version, '@features', order, '@layout', layout, unpack(fields))
  if #removed > 0 then redis.call('HDEL', schema, unpack(removed)) end
end
return version
