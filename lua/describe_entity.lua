--[[
Tells all that a caller needs at its start: what is declared, and how replies are aligned.

KEYS[1]  schema    a hash: the schema

ARGV     none

Reply    one msgpack map, to which later versions may add:
           contract          the major version of the scripts' contract, 1
           version           of the schema, a counter
           layout            `@` and a digest of the packed row's features, 8 bytes in all: what reads by layout
                             are asked with, and what rows start with
           features          array of [name, type] in declared order
           row               names of the packed row's features: those of a read without names, or by layout
           services          array of [name, `@` and a digest, array of features' names], sorted by name;
                             without those that list features of other entities, which no script reads
           join_key          the name of the id in tables; nil for none
           members           the key of the set of all known ids
           ttl, max_age      ms; nil for none
           tombstone         ms that the tombstone of a deleted entity stays
           max_ahead         ms that an event time may be ahead of Redis's clock
           options           array of [word, value] of the options of single features, as apply_schema takes them, that
                             matter to rows
Errors   BADARGS, NOSCHEMA, and Redis's own (WRONGTYPE for a key of another type).
Cost     O(features)
]]
local function describe_entity(KEYS, ARGV)
  -- @include byte_order
  -- @include day
  -- @include members_key
  -- @include schema
  -- @include stored_schema
  -- @include usage
  -- @include wrong_schema_key
  if #KEYS ~= 1 or #ARGV > 0 then return usage('1 key (schema), and nothing else', KEYS, ARGV) end
  local wrong = wrong_schema_key(KEYS[1])
  if wrong then return wrong end
  local declared, failure = read_layout(KEYS[1])
  if failure then return failure end
  local schema
  schema, failure = load_schema(KEYS[1])
  if failure then return failure end
  local stored, rules, features, services, options = schema.before, schema.rules, {}, {}, {}
  for position = 1, #schema.features, 2 do
    features[#features + 1] = { schema.features[position], schema.features[position + 1] }
  end
  for word, value in pairs(stored) do
    local name = string.match(word, '^@service:(.*)$')
    local digest = name and stored['@digest:' .. name] -- one that lists features of another entity has none
    if digest then services[#services + 1] = { name, digest, cjson.decode(value) } end
  end
  for word, value in pairs(rules) do
    if string.find(word, ':', 1, true) then options[#options + 1] = { word, value } end
  end
  local function by_name(one, other) return is_before(one[1], other[1]) end
  table.sort(services, by_name)
  table.sort(options, by_name)
  return cmsgpack.pack({
    contract = 1, version = tonumber(stored['@version']), layout = declared.layout,
    features = features, row = declared.names, services = services, options = options,
    join_key = stored['@join_key'] or cjson.null, members = declared.members or members_beside(KEYS[1]),
    ttl = declared.ttl > 0 and declared.ttl or cjson.null, max_age = tonumber(rules['@max_age']) or cjson.null,
    tombstone = tonumber(stored['@tombstone'] or DAY), max_ahead = declared.max_ahead,
  })
end
