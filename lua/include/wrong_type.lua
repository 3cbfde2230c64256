-- Whether a write failed because its key holds something else than a hash: that concerns one row. Any other error, out
-- of memory or read-only, comes at the first write of a call, so that nothing has been written.
local function is_wrong_type(reply) return string.sub(reply.err, 1, 9) == 'WRONGTYPE' end
