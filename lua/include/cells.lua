-- @include marks
-- @include parse
-- @include strings
-- The value of a text that is not remembered and what to store for it; nil when it is not of the column's type. A mark
-- stands for itself. Many columns hold few different texts: these are remembered. A column that turns out to hold many
-- is not any more.
local function canonical(columns, column, text, row)
  if text == FORGET or text == LEAVE then return text, text end
  local value, wide = parse(columns.kinds[column], text)
  if value == nil then return nil end
  if wide then columns.declared.wide = true end
  if value == true then return value, 'true' end
  if value == false then return value, 'false' end
  if value == 0 and sub(text, 1, 1) == '-' then return 0, '0' end -- msgpack by cmsgpack has no negative zero
  local remembered, misses = columns.remembered, columns.misses
  if remembered[column] then
    misses[column] = misses[column] + 1
    if misses[column] > 32 and misses[column] * 2 > row then remembered[column] = false
    else remembered[column][text] = value end
  end
  return value, text
end

-- Check the cells of a row, the texts behind `before`, and put them into the columns' `fields` and `values`. Return
-- whether there are marks among them; or nil and what is wrong with one.
local function read_cells(columns, arguments, before, row)
  local names, slots, kinds, remembered = columns.names, columns.slots, columns.kinds, columns.remembered
  local fields, values, marked = columns.fields, columns.values, false
  for column = 1, #names do
    local text, known = arguments[before + column], remembered[column]
    local value = known and known[text]
    if not value then
      -- The common shapes of numbers, without a call; anything else goes the long way.
      local kind, size = kinds[column], #text
      if not known and ((kind == 'float' and size < 100 and (find(text, '^[1-9]%d*%.?%d*$')
        or find(text, '^0%.%d+$'))) or (kind == 'int' and size < 16 and find(text, '^[1-9]%d*$'))) then
        value = tonumber(text)
        if value >= 2^32 then columns.declared.wide = true end
      else
        local offered = text
        value, text = canonical(columns, column, offered, row)
        if value == nil then
          -- @include kinds
          -- @include text
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
