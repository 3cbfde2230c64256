-- @include feature_options
-- @include kinds
-- @include text
-- @include window_kind
local NAME = '^[%a_][%w_.-]*$'
local SCALARS = { float = true, int = true, bool = true, string = true }

local function is_kind(kind)
  local length = vector_length(kind)
  if length then return length >= 1 and length <= 2048 and string.find(kind, '^float32%[[1-9]%d*%]$') end
  return SCALARS[kind] or parse_window(kind) ~= nil
end

-- Declare a feature, without options, in a schema (stored_schema.lua). Return what is wrong, or nil.
local function declare_feature(schema, name, kind)
  local declared, fields, features = schema.declared, schema.fields, schema.features
  if #name > 128 or not string.find(name, NAME) then
    return 'BADARGS a feature name is a letter or _, then letters, digits, _ . - (at most 128): ' .. shown(name)
  end
  if not is_kind(kind) then
    return 'BADARGS type of ' .. name .. ' must be float, int, bool or string, float32[N], count(SPAN) or'
      .. ' sum(FIELD, SPAN)'
  end
  if schema.retiring[name] then
    return 'BADARGS ' .. name .. ' is being retired: featurestore retire goes on with that, and then it can be declared'
      .. ' again'
  elseif not declared[name] then
    declared[name] = kind
    fields[#fields + 1], fields[#fields + 2] = name, kind
    features[#features + 1], features[#features + 2] = name, kind
  elseif declared[name] ~= kind then
    return 'TYPECHANGE ' .. name .. ' is declared as ' .. declared[name] .. ' and cannot become ' .. kind
      .. ': declare a feature of another name'
  end
  take_options_back(schema, name)
  return nil
end
