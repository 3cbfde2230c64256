-- Numbers that cmsgpack would pack as another type than their feature's: ints from 2^53 on, which are texts here, and
-- whole floats beyond 32 bits, which it packs as ints of 64 bits.

-- An int of 64 bits, given as decimal text, in msgpack. Its halves are made of six digits at a time.
local function pack_int(text)
  local INT_64, UINT_64, MINUS = 211, 207, 45
  local negative, high, low = string.byte(text) == MINUS, 0, 0
  for digits in string.gmatch(text, '%d%d?%d?%d?%d?%d?') do
    low = low * 10 ^ #digits + tonumber(digits)
    high = high * 10 ^ #digits + math.floor(low / 2^32)
    low = low % 2^32
  end
  if negative then
    high = low > 0 and 2^32 - 1 - high or (2^32 - high) % 2^32
    low = (2^32 - low) % 2^32
  end
  return struct.pack('>BI4I4', negative and INT_64 or UINT_64, high, low)
end

-- A value in msgpack, if cmsgpack would pack it as another type than its feature's; else nil.
local function pack_wide(kind, value)
  local FLOAT_64 = 203
  if kind == 'int' then return type(value) == 'string' and pack_int(value) or nil end
  if string.sub(kind, 1, 6) == 'count(' then return nil end
  if type(value) == 'number' and (value >= 2^32 or value < -2^31) and value == math.floor(value) then
    return struct.pack('>Bd', FLOAT_64, value)
  end
  return nil
end
