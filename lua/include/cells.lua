-- @include bytes
-- @include kinds
-- @include marks
-- @include parse
-- @include strings
-- @include text
-- Return a function that checks the cells of a row: `read(before, row)` reads the texts behind `before`, and puts them
-- into `fields`, as HSET takes them, and their values into `values`, by slot. It returns whether there are marks among
-- them; or nil and what is wrong with one.
local function cell_reader(arguments, columns, fields, values)
  local names, slots, kinds = columns.names, columns.slots, columns.kinds
  -- Values of texts that were found good in a column: many columns hold few different ones. A column that turns out to
  -- hold many is not remembered (false).
  local remembered, misses = {}, {}
  for column = 1, #names do
    local kind = kinds[column]
    remembered[column], misses[column] = kind ~= 'bool' and #kind <= LONGEST_SCALAR and {}, 0
  end

  -- The value of a text that is not remembered and what to store for it; nil when it is not of the column's type. A
  -- mark stands for itself.
  local function canonical(column, text, row)
    if text == FORGET or text == LEAVE then return text, text end
    local value = parse(kinds[column], text)
    if value == nil then return nil end
    if value == true then return value, 'true' end
    if value == false then return value, 'false' end
    if value == 0 and byte(text) == MINUS then return 0, '0' end -- msgpack by cmsgpack has no negative zero
    if remembered[column] then
      misses[column] = misses[column] + 1
      if misses[column] > 32 and misses[column] * 2 > row then remembered[column] = false
      else remembered[column][text] = value end
    end
    return value, text
  end

  return function(before, row)
    local marked = false
    for column = 1, #names do
      local text, known = arguments[before + column], remembered[column]
      local value = known and known[text]
      if not value then
        -- The common shapes of numbers, without a call; anything else goes the long way.
        local kind, size = kinds[column], #text
        if not known and ((kind == 'float' and size < 100 and (find(text, '^[1-9]%d*%.?%d*$')
          or find(text, '^0%.%d+$'))) or (kind == 'int' and size < 16 and find(text, '^[1-9]%d*$'))) then
          value = tonumber(text)
        else
          local offered = text
          value, text = canonical(column, offered, row)
          if value == nil then
            local what = vector_length(kind) and #offered .. ' bytes, or NaN or infinity' or shown(offered)
            return nil, names[column] .. ' is ' .. kind .. ', not ' .. what
          end
          marked = marked or text == FORGET or text == LEAVE
        end
      end
      fields[4 + 2 * column], values[slots[column]] = text, value
    end
    return marked
  end
end
