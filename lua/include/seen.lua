-- The ids of an entity's last events, in the field `@seen`: a digest of 16 bytes each.
local REMEMBERED, DIGEST = 64, 16

-- `seen` with the digest of one more id behind it, without the oldest beyond the last 64; nil where it was there.
local function remember(seen, event_id)
  local digest = string.sub(redis.sha1hex(event_id), 1, DIGEST)
  local position = string.find(seen, digest, 1, true)
  while position do
    if position % DIGEST == 1 then return nil end
    position = string.find(seen, digest, position + 1, true)
  end
  return string.sub(seen, -(REMEMBERED - 1) * DIGEST) .. digest
end
