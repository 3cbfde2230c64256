-- @include byte_order
-- @include bytes
-- @include members_named
-- @include retiring
-- The schema at `key`, as it is stored and as a call changes it:
--   before            what is stored: field → value
--   had_ttl           whether it has an `@ttl`, be it 0
--   declared          feature → kind
--   features          name, kind, name, kind … in declared order
--   rules             word of an option that matters to rows → its value
--   join_key          name of the id, '' for none
--   retiring          feature that is being retired → the token of that (retiring.lua)
--   plain             field that does not matter to rows → what it becomes, '' for nothing
--   fields, removed   what is to be stored (field, value …), what is to be taken out
-- Or nil and an error reply.
local function load_schema(key)
  local stored = redis.pcall('HGETALL', key)
  if stored.err then return nil, stored end
  local before, declared, rules = {}, {}, {}
  for position = 1, #stored, 2 do
    local field, value = stored[position], stored[position + 1]
    before[field] = value
    if string.byte(field) ~= AT_SIGN then declared[field] = value end
  end
  local words = before['@rules'] and cjson.decode(before['@rules']) or {}
  for position = 1, #words, 2 do rules[words[position]] = words[position + 1] end
  return {
    before = before, had_ttl = rules['@ttl'] ~= nil, declared = declared, rules = rules,
    join_key = before['@join_key'] or '',
    features = before['@features'] and cjson.decode(before['@features']) or {}, plain = {}, fields = {}, removed = {},
    retiring = read_retiring(before['@retiring']),
  }
end

-- The rules as `@rules` has them, sorted, so that the same rules have the same layout; nil where there are none.
local function encode_rules(rules)
  local words = {}
  for word in pairs(rules) do words[#words + 1] = word end
  table.sort(words, is_before)
  for position = #words, 1, -1 do table.insert(words, position + 1, rules[words[position]]) end
  return #words > 0 and cjson.encode(words) or nil
end

-- Store what has changed, but nothing where `dry_run`; return the version that the schema has then.
local function store_schema(key, schema, dry_run)
  local fields, removed, before = schema.fields, schema.removed, schema.before
  local rules = encode_rules(schema.rules)
  if rules and rules ~= before['@rules'] then fields[#fields + 1], fields[#fields + 2] = '@rules', rules end
  if not rules and before['@rules'] then removed[#removed + 1] = '@rules' end
  local members = schema.plain['@members'] or before['@members'] or ''
  local is_plain = members ~= '' and not (schema.plain['@partitions'] or before['@partitions'])
  schema.plain['@members_key'] = is_plain and members or members_named(key, members)
  for word, value in pairs(schema.plain) do
    if value == '' and before[word] then removed[#removed + 1] = word
    elseif value ~= '' and before[word] ~= value then fields[#fields + 1], fields[#fields + 2] = word, value end
  end
  local version = tonumber(before['@version'] or 0)
  if #fields == 0 and #removed == 0 then return version end
  if dry_run then return version + 1 end
  local features = #schema.features > 0 and cjson.encode(schema.features) or '[]'
  local layout = '@' .. string.sub(redis.sha1hex(features .. (rules or '')), 1, 7)
  redis.call('HSET', key, '@version', version + 1, '@features', features, '@layout', layout)
  for first = 1, #fields, 4000 do
    redis.call('HSET', key, unpack(fields, first, math.min(first + 3999, #fields)))
  end
  for first = 1, #removed, 4000 do
    redis.call('HDEL', key, unpack(removed, first, math.min(first + 3999, #removed)))
  end
  return version + 1
end
