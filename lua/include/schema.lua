local NOSCHEMA = 'NOSCHEMA no schema is stored: featurestore apply FILE declares features'

-- What `@rules` says, a JSON array of word, value …: `ttl` and `max_age` in ms for the entity, and by feature `limits`
-- (ms), `defaults` (text) and `always` (vectors that are in the packed row). nil where there are none.
local function read_rules(text)
  if not text then return nil end
  local rules, words = { limits = {}, defaults = {}, always = {} }, cjson.decode(text)
  for position = 1, #words, 2 do
    local option, name = string.match(words[position], '^@([%a_]+):?(.*)$')
    local value = words[position + 1]
    if name == '' then rules[option] = tonumber(value)
    elseif option == 'max_age' then rules.limits[name] = tonumber(value)
    elseif option == 'default' then rules.defaults[name] = value
    else rules.always[name] = true end
  end
  return rules
end

-- How old, in ms, a value of a feature may be to be served; nil for any age.
local function limit_of(rules, name)
  local limit, ttl = rules.limits[name] or rules.max_age, rules.ttl or 0
  if ttl > 0 and (not limit or ttl < limit) then return ttl end
  return limit
end

-- Features to be read together: names, kinds, and per position what the rules say of them: `limits` (ms), `defaults`
-- (values), `windows`, and in `vectors` the length (both nil where there are none); for the entity `ttl`, and
-- `ttl_ended` where it once had one.
-- `timed` when event times matter, `plain` when a packed row has all values and no others.
local function make_selection(names, kinds, rules)
  local selection = { names = names, kinds = kinds, plain = not rules, timed = rules and true, ttl = 0 }
  if rules then
    selection.ttl, selection.ttl_ended, selection.limits, selection.defaults = rules.ttl or 0, rules.ttl == 0, {}, {}
  end
  for position = 1, #names do
    local name, kind = names[position], kinds[position]
    if rules then
      selection.limits[position] = limit_of(rules, name)
      if rules.defaults[name] then selection.defaults[position] = parse(kind, rules.defaults[name]) end
    end
    if #kind > 6 then -- longer than the name of any scalar type
      local of, value = 'windows', parse_window(kind)
      if not value then of, value = 'vectors', vector_length(kind) end
      selection[of] = selection[of] or {}
      selection[of][position] = value
      selection.plain = false
    end
  end
  return selection
end

-- The features of the packed row, in declared order, as a selection with the row's `layout`; `extras` are the vectors
-- that are not in the row, `others` their kinds. Or nil and an error reply.
local function read_layout(key)
  local stored = redis.pcall('HMGET', key, '@features', '@layout', '@rules')
  if stored.err then return nil, stored end
  if not stored[1] or not stored[2] then return nil, redis.error_reply(NOSCHEMA) end
  local declared, names, kinds, extras, others = cjson.decode(stored[1]), {}, {}, {}, {}
  local rules = read_rules(stored[3])
  for position = 1, #declared, 2 do
    local name, kind = declared[position], declared[position + 1]
    if #kind > 6 and vector_length(kind) and not (rules and rules.always[name]) then
      extras[#extras + 1], others[#others + 1] = name, kind
    else
      names[#names + 1], kinds[#kinds + 1] = name, kind
    end
  end
  local selection = make_selection(names, kinds, rules)
  selection.layout, selection.extras, selection.others = stored[2], extras, others
  return selection
end

-- The layout that a caller names by the word '@' .. layout at `position`, or nil.
local function layout_named(words, position)
  local word = words[position]
  if word and byte(word, 1) == 64 and word ~= '@event_time' then return string.sub(word, 2) end
  return nil
end

-- What a caller's words stand for, as a selection: the features named; with none, all of the packed row; with a layout,
-- the same, as long as that is the layout still; with ?service=name, the features that the schema lists under it. Other
-- words with a ? in front set what is wanted of the answer: ?metadata, ?max_age=ms; ?current asks for no more than what
-- is looked at here. Or nil and an error reply.
local function read_schema(key, words)
  local names, metadata, max_age, service = {}, false, nil, nil
  for position = 1, #words do
    local word = words[position]
    if byte(word, 1) ~= 63 then names[#names + 1] = word
    elseif word == '?metadata' then metadata = true
    elseif find(word, '^%?max_age=%d+$') and #word < 25 then max_age = tonumber(string.sub(word, 10))
    elseif find(word, '^%?service=.') then service = string.sub(word, 10)
    elseif word ~= '?current' then return nil, redis.error_reply('BADARGS no such option: ' .. shown(word)) end
  end
  if service then
    local stored = redis.pcall('HGET', key, '@service:' .. service)
    if type(stored) == 'table' then return nil, stored end
    if not stored then return nil, redis.error_reply('UNDECLARED no service ' .. shown(service)) end
    names = cjson.decode(stored)
  end
  local selection, failure
  local layout = #names == 1 and layout_named(names, 1)
  if #names == 0 or layout then
    selection, failure = read_layout(key)
    if layout and selection and layout ~= selection.layout then
      failure = redis.error_reply('SCHEMA_CHANGED the schema has another layout now: read it again')
    end
    if failure then return nil, failure end
  else
    names[#names + 1] = '@rules'
    local kinds = redis.pcall('HMGET', key, unpack(names))
    if kinds.err then return nil, kinds end
    local rules = read_rules(kinds[#names])
    names[#names] = nil
    for position = 1, #names do
      if not kinds[position] or byte(names[position], 1) == 64 then
        if redis.call('EXISTS', key) == 0 then return nil, redis.error_reply(NOSCHEMA) end
        return nil, redis.error_reply('UNDECLARED ' .. shown(names[position]) .. ' is not declared in the schema')
      end
    end
    selection = make_selection(names, kinds, rules)
  end
  selection.metadata, selection.max_age = metadata, max_age
  if metadata or max_age then selection.timed = true end
  return selection
end
