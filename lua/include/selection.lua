-- @include kinds
-- @include parse
-- @include rules
-- @include window_kind
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
    if #kind > LONGEST_SCALAR then
      local of, value = 'windows', parse_window(kind)
      if not value then of, value = 'vectors', vector_length(kind) end
      selection[of] = selection[of] or {}
      selection[of][position] = value
      selection.plain = false
    end
  end
  return selection
end
