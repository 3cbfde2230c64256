-- What `@rules` says, a JSON array of word, value …: `ttl` and `max_age` in ms for the entity, and by feature `limits`
-- (ms), `defaults` (text) and `always` (vectors that are in the packed row).
local function read_rules(text)
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
