-- @include bytes
-- @include schema
-- @include schema_errors
-- @include selection
-- @include strings
-- @include text
-- The features of the packed row, if `layout` is nil or still the schema's. Or nil and an error reply.
local function select_layout(key, layout)
  local selection, failure = read_layout(key)
  if failure then return nil, failure end
  if layout and layout ~= selection.layout then return nil, redis.error_reply(SCHEMA_CHANGED) end
  selection.digest = selection.layout
  return selection
end

-- The features named. Or nil and an error reply.
local function select_names(key, names)
  names[#names + 1] = '@rules'
  local kinds = redis.pcall('HMGET', key, unpack(names))
  if kinds.err then return nil, kinds end
  local rules
  if kinds[#names] then
    -- @include rules
    rules = read_rules(kinds[#names])
  end
  kinds[#names], names[#names] = nil, nil
  for position = 1, #names do
    if byte(names[position]) == AT_SIGN then
      return nil, redis.error_reply('BADARGS ' .. shown(names[position]) .. ' is no name of a feature')
    end
    if not kinds[position] then
      -- @include no_schema
      if redis.call('EXISTS', key) == 0 then return nil, no_schema(key) end
      return nil, redis.error_reply('UNDECLARED ' .. shown(names[position]) .. ' is not declared in the schema')
    end
  end
  return make_selection(names, kinds, rules)
end

-- What the words of a read ask for, as a selection. Or nil and an error reply.
--   names            these features
--   no name          all features of the packed row
--   a layout         the same, if the schema still has this layout
--   ?service=NAME    the features that the schema lists under that name
--   ?max_age=MS      no values older than that
--   ?metadata        statuses and times as well
--   ?current         nothing more: the schema is read here anyway
local function read_wanted(key, words)
  local names, metadata, max_age, service = {}, false, nil, nil
  for position = 1, #words do
    local word = words[position]
    if byte(word) ~= QUESTION_MARK then names[#names + 1] = word
    elseif word == '?metadata' then metadata = true
    elseif find(word, '^%?max_age=%d+$') and #word < 25 then max_age = tonumber(sub(word, 10))
    elseif find(word, '^%?service=.') then service = sub(word, 10)
    elseif word ~= '?current' then
      local wrong = find(word, '^%?max_age=') and '?max_age wants ms, not ' or 'no such option: '
      return nil, redis.error_reply('BADARGS ' .. wrong .. shown(word))
    end
  end
  local digest, layout, selection, failure
  if service then
    if #names > 0 then return nil, redis.error_reply('BADARGS name the features or a service, not both') end
    local stored = redis.pcall('HMGET', key, '@service:' .. service, '@digest:' .. service)
    if stored.err then return nil, stored end
    if not stored[1] then
      -- @include no_schema
      if redis.call('EXISTS', key) == 0 then return nil, no_schema(key) end
      return nil, redis.error_reply('UNDECLARED no service ' .. shown(service) .. ' is declared in the schema')
    end
    names, digest = cjson.decode(stored[1]), stored[2]
  elseif #names == 1 and byte(names[1]) == AT_SIGN then
    -- @include layout_word
    layout, failure = layout_named(names[1])
    if failure then return nil, failure end
  end
  if #names == 0 or layout then selection, failure = select_layout(key, layout)
  else selection, failure = select_names(key, names) end
  if failure then return nil, failure end
  if service then selection.digest = digest end
  selection.metadata, selection.max_age = metadata, max_age
  if metadata or max_age then selection.timed = true end
  return selection
end
