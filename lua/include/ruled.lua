-- @include parse
-- How old, in ms, a value of a feature may be to be served; nil for any age.
local function limit_of(rules, name)
  local limit, ttl = rules.limits[name] or rules.max_age, rules.ttl or 0
  if ttl > 0 and (not limit or ttl < limit) then return ttl end
  return limit
end

-- Put what the rules say of a selection's features into the selection (selection.lua).
local function set_rules(selection, rules)
  local names, kinds, limits, defaults = selection.names, selection.kinds, {}, {}
  for position = 1, #names do
    local name = names[position]
    limits[position] = limit_of(rules, name)
    if rules.defaults[name] then
      local value, wide = parse(kinds[position], rules.defaults[name])
      defaults[position] = value
      if wide then selection.wide = true end
    end
  end
  selection.ttl, selection.ttl_ended = rules.ttl or 0, rules.ttl == 0
  selection.limits, selection.defaults = limits, defaults
end
