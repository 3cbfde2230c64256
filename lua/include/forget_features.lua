-- @include byte_order
-- @include feature_options
-- Take declared features out of a schema (stored_schema.lua), with their options. They are being retired from now on,
-- by `token`.
local function forget_features(schema, names, token)
  local declared, features, kept, retiring, words = schema.declared, schema.features, {}, {}, {}
  for position = 1, #names do
    local name = names[position]
    declared[name], schema.retiring[name] = nil, token
    schema.removed[#schema.removed + 1] = name
    take_options_back(schema, name)
  end
  for position = 1, #features, 2 do
    if declared[features[position]] then
      kept[#kept + 1], kept[#kept + 2] = features[position], features[position + 1]
    end
  end
  schema.features = kept
  for name in pairs(schema.retiring) do retiring[#retiring + 1] = name end
  table.sort(retiring, is_before)
  for position = 1, #retiring do
    words[#words + 1], words[#words + 2] = retiring[position], schema.retiring[retiring[position]]
  end
  schema.plain['@retiring'] = cjson.encode(words)
end
