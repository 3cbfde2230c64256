-- @include key_form
-- @include row_format
-- @include strings
-- Put rows of the layout `digest` that are stored at the keys behind the first two into `known`, which tells by 1 or 0
-- which ids are. The ids are the words behind `before`. Return what such rows start with, nil where there is none; the
-- positions of known ids without such a row, or nil; and the first position whose key is not that of its id, or nil.
-- A key that holds no hash raises an error. To look for that at each of them would cost 2 %.
local function put_stored_rows(known, keys, words, before, digest)
  local call, sub, after_id, head_bytes = redis.call, sub, AFTER_ID, LAYOUT_BYTES + 1 -- locals are quicker
  local prefix, start, missed = sub(keys[2], 1, -1 - #SCHEMA_END), nil, nil
  for position = 1, #known do
    local key, row = keys[2 + position], false
    if key ~= prefix .. words[before + position] .. after_id then return start, missed, position end
    if known[position] == 1 then
      row = call('HGET', key, '@row')
      if not row or sub(row, 1, head_bytes) ~= start then -- the layout, and the head of the values' array
        if row and not start and sub(row, 1, LAYOUT_BYTES) == digest and find(row, ARRAY, head_bytes) then
          start = sub(row, 1, head_bytes)
        else
          missed = missed or {}
          missed[#missed + 1] = position
        end
      end
    end
    known[position] = row
  end
  return start, missed
end
