-- Take back all options of a feature in a schema (stored_schema.lua): the rules, and what is told of it.
local function take_options_back(schema, name)
  for _, option in ipairs({ '@max_age:', '@default:', '@always:' }) do schema.rules[option .. name] = nil end
  for _, option in ipairs({ '@description:', '@owner:', '@tags:' }) do
    local word = option .. name
    if schema.before[word] or schema.plain[word] then schema.plain[word] = '' end
  end
end
