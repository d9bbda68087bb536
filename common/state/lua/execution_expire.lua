-- requires: flow
-- Starts the TTL of an ended execution's keys, a chunk of jobs a call.
-- ARGV  execution, first job of the chunk (from 0), size of the chunk
-- RETURNS the first job of the next chunk; -1 when all is done, or it is not ended
local x = X.get(ARGV[1])
if not EXECUTION_ENDED[x.status] then return -1 end
return expire(x, tonumber(ARGV[2]), tonumber(ARGV[3]))
