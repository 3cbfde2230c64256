-- The texts in `pieces` as one. Beyond its buffer of 8 KiB, table.concat copies what it has again and again; `..` does
-- not.
local function long_text(pieces)
  local eighth, texts = math.ceil(#pieces / 8), {}
  for number = 1, 8 do
    texts[number] = table.concat(pieces, '', (number - 1) * eighth + 1, math.min(number * eighth, #pieces))
  end
  return texts[1] .. texts[2] .. texts[3] .. texts[4] .. texts[5] .. texts[6] .. texts[7] .. texts[8]
end
