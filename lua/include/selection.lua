-- @include longest_scalar
-- Features that are read together, and what the rules say of them:
--   names, kinds      by position
--   limits, defaults  by position: how old a value may be, in ms; the value that is served if there is none
--   windows, vectors  by position: the window (window_kind.lua); the vector's length. nil if there are none
--   heads             by position: what stands before a vector in msgpack
--   ttl, ttl_ended    of the entity: its ttl in ms, 0 for none; true if it once had one
--   timed             true if event times matter
--   plain             true if a packed row has just the stored values
--   wide              true if there may be numbers that are wide (wide.lua); those who read values find out
--   numbers           the slots of floats and ints, once a row was unpacked (entity.lua)
--   digest            what tells the caller the names, where it did not name them; nil where it did
--   is_vector         the function that tells whether bytes are a vector, where there are vectors (vector.lua)
local function make_selection(names, kinds, rules)
  local selection = {
    names = names, kinds = kinds, plain = not rules, timed = rules and true, ttl = 0, wide = false,
    digest = nil, numbers = nil,
  }
  if rules then
    -- @include ruled
    set_rules(selection, rules)
  end
  local longer
  for position = 1, #names do
    if #kinds[position] > LONGEST_SCALAR then
      longer = longer or {}
      longer[#longer + 1] = position
    end
  end
  if longer then
    -- @include bytes_head
    -- @include kinds
    -- @include vector
    -- @include window_kind
    selection.is_vector, selection.plain = is_vector, false
    for _, position in ipairs(longer) do
      local length = vector_length(kinds[position])
      if length then
        selection.vectors, selection.heads = selection.vectors or {}, selection.heads or {}
        selection.vectors[position], selection.heads[position] = length, bytes_head(4 * length)
      else
        selection.windows = selection.windows or {}
        selection.windows[position] = parse_window(kinds[position])
        selection.wide = true -- sums may be
      end
    end
  end
  return selection
end
