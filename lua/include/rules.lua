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
