-- @include declare_feature
-- @include kinds
-- @include log_option
-- @include longest_scalar
-- @include notes
-- @include parse
-- @include text
-- @include utf8
local REFERENCE = '^[%a_][%w_.:-]*$' -- a feature, or entity:feature
local TIMES = { ttl = true, max_age = true, tombstone = true, max_ahead = true }
-- Options that do not matter to rows.
local PLAIN = {
  tombstone = true, max_ahead = true, service = true, join_key = true, members = true, description = true, owner = true,
  tags = true, partitions = true, log = true,
}

-- Whether a service's value is a JSON array of what may be names, or empty.
local function is_list_of_names(value)
  if value == '' then return true end
  local fine, names = pcall(cjson.decode, value)
  if not fine or type(names) ~= 'table' or #names == 0 or #names > 5000 then return false end
  for position = 1, #names do
    if type(names[position]) ~= 'string' or not string.find(names[position], REFERENCE) then return false end
  end
  return true
end

local function is_power_of_two(value)
  local power = 1
  while power < 4096 and tostring(power) ~= value do power = 2 * power end
  return tostring(power) == value
end

-- What is wrong with an option, or nil.
local function option_error(declared, word, option, name, value)
  if not is_utf8(value) then return 'BADARGS ' .. shown(word) .. ' wants text in UTF-8' end
  local of_feature = option == 'default' or option == 'always'
    or (name ~= '' and (option == 'max_age' or NOTES[option]))
  if of_feature and not declared[name] then return 'UNDECLARED ' .. shown(name) .. ' is not declared in the schema' end
  if NOTES[option] then return note_error(word, option, value)
  elseif option == 'service' then
    if not is_list_of_names(value) or not string.find(name, NAME) then
      return 'BADARGS ' .. shown(word) .. ' wants a JSON array of feature names'
    end
  elseif option == 'log' then return log_error(word, string.find(name, NAME) and value)
  elseif TIMES[option] and (option == 'max_age' or name == '') then
    if value ~= '' and (not string.find(value, '^%d+$') or #value > 13) then
      return 'BADARGS ' .. shown(word) .. ' wants ms, not ' .. shown(value)
    end
  elseif option == 'default' then
    if value ~= '' and (#declared[name] > LONGEST_SCALAR or parse(declared[name], value) == nil) then
      return 'BADARGS the default of ' .. name .. ' must be ' .. declared[name] .. ', not ' .. shown(value)
    end
  elseif option == 'always' then
    if value ~= '' and not vector_length(declared[name]) then return 'BADARGS ' .. shown(name) .. ' is no vector' end
  elseif option == 'partitions' and not is_power_of_two(value) then
    return 'BADARGS ' .. shown(word) .. ' wants a power of two from 1 to 4096, not ' .. shown(value)
  elseif option == 'members' and (string.find(value, ':schema$') or string.find(value, 'featurestore:schemas$')) then
    return 'BADARGS ' .. shown(value) .. ' is no set of ids'
  elseif name ~= '' or not PLAIN[option] then
    return 'BADARGS no such option: ' .. shown(word)
  end
  return nil
end

-- Set the option that `word` names, `@option` or `@option:name`, in a schema (stored_schema.lua); an empty value takes
-- it back. Return what is wrong, or nil.
local function set_option(schema, word, option, name, value)
  local wrong = option_error(schema.declared, word, option, name, value)
  if wrong then return wrong end
  if word == '@join_key' then schema.join_key = value end
  local before = word == '@partitions' and schema.before['@partitions']
  if before and before ~= value then
    return 'BADARGS the entity has ' .. before .. ' partitions, and cannot have ' .. shown(value) .. ' in the same'
      .. ' place: featurestore migrate copies it to where it has as many'
  end
  if not PLAIN[option] then
    -- An entity's ttl that has ended is kept as 0, so that writes take the old one off its key.
    if word == '@ttl' and value == '' and schema.had_ttl then value = '0' end
    schema.rules[word] = value ~= '' and value or nil
  else schema.plain[word] = value end
  if option == 'service' then -- it has the options that this call gives it, before or after, and no others
    local log = '@log:' .. name
    schema.plain[log] = value ~= '' and schema.plain[log] or ''
  end
  return nil
end
