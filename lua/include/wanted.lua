-- @include bytes
-- @include schema_errors
-- @include selection
-- @include strings
-- @include text
-- The names of a service's features, and the digest of their list. Or nil, nil and an error reply.
local function read_service(key, service)
  local stored = redis.pcall('HMGET', key, '@service:' .. service, '@digest:' .. service)
  if stored.err then return nil, nil, stored end
  if not stored[1] then
    -- @include no_schema
    if not redis.call('HGET', key, '@layout') then return nil, nil, no_schema(key) end
    return nil, nil, redis.error_reply('UNDECLARED no service ' .. shown(service) .. ' is declared in the schema')
  end
  return cjson.decode(stored[1]), stored[2]
end

-- The features named, as a selection; where the packed row is wanted too, if the schema still has this layout, or any
-- layout where it is ''. Or nil and an error reply.
local function select_names(key, names, layout)
  local count = #names
  names[count + 1], names[count + 2] = '@rules', layout and '@layout' or nil
  local kinds = redis.pcall('HMGET', key, unpack(names))
  if kinds.err then return nil, kinds end
  local rules, current = kinds[count + 1], kinds[count + 2]
  names[count + 1], names[count + 2], kinds[count + 1], kinds[count + 2] = nil, nil, nil, nil
  if layout and not current then
    -- @include no_schema
    return nil, no_schema(key)
  end
  if layout and layout ~= '' and layout ~= current then return nil, redis.error_reply(SCHEMA_CHANGED) end
  if rules then
    -- @include rules
    rules = read_rules(rules)
  end
  for position = 1, count do
    if byte(names[position]) == AT_SIGN then
      return nil, redis.error_reply('BADARGS ' .. shown(names[position]) .. ' is no name of a feature')
    end
    if not kinds[position] then
      -- @include no_schema
      if not redis.call('HGET', key, '@layout') then return nil, no_schema(key) end
      return nil, redis.error_reply('UNDECLARED ' .. shown(names[position]) .. ' is not declared in the schema')
    end
  end
  local selection = make_selection(names, kinds, rules or nil)
  if layout then selection.row_layout, selection.schema = current, key end
  return selection
end

-- Put an option of a read into `options`. Return an error reply where it is none.
local function take_option(word, options)
  -- @include most_option
  local most = tonumber(string.match(word, MOST))
  if most and most <= MOST_VALUES then options.most = most
  elseif word == '?metadata' then options.metadata = true
  elseif find(word, '^%?max_age=%d+$') and #word < 25 then options.max_age = tonumber(sub(word, 10))
  elseif find(word, '^%?service=.') then options.service = sub(word, 10)
  elseif word ~= '?current' then
    local wrong = find(word, '^%?max_age=') and '?max_age wants ms, not '
      or find(word, '^%?most=') and '?most wants a number from 1 to 1000000, not ' or 'no such option: '
    return redis.error_reply('BADARGS ' .. wrong .. shown(word))
  end
  return nil
end

-- What the words of a read ask for, as a selection of the features named. Or nil and an error reply.
--   names            these features
--   no name          all features of the packed row
--   a layout         the same, if the schema still has this layout; and the features that are named behind it
--   ?service=NAME    the features that the schema lists under that name
--   ?max_age=MS      no values older than that
--   ?metadata        statuses and times as well
--   ?most=N          no more values than that made in a call
--   ?current         nothing more: the schema is read here anyway
-- To a selection is added: `metadata`, `max_age` and `most`; where the packed row is wanted, its `row_layout` and the
-- schema's key as `schema`.
local function read_wanted(key, words)
  local names, options, layout, digest, failure = {}, {}, nil, nil, nil
  for position = 1, #words do
    local word = words[position]
    if byte(word) == QUESTION_MARK then failure = failure or take_option(word, options)
    elseif byte(word) == AT_SIGN and #names == 0 and not layout and word ~= '@event_time' then layout = word
    else names[#names + 1] = word end
  end
  if failure then return nil, failure end
  local service, by_name = options.service, not layout and #names > 0
  if service then
    if layout or by_name then
      return nil, redis.error_reply('BADARGS name the features or a service, not both')
    end
    names, digest, failure = read_service(key, service)
  elseif layout then
    -- @include layout_word
    layout, failure = layout_named(layout)
  elseif not by_name then layout = '' end
  if failure then return nil, failure end
  if options.most and by_name and not options.metadata then
    return nil, redis.error_reply('BADARGS ?most is for replies with a place for each id: by layout, of a service, or'
      .. ' with ?metadata')
  end
  local selection
  selection, failure = select_names(key, names, layout)
  if failure then return nil, failure end
  selection.digest, selection.metadata, selection.max_age = digest, options.metadata, options.max_age
  selection.most = options.most
  if options.metadata or options.max_age then selection.timed = true end
  return selection
end
