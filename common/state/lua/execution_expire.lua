-- requires: flow
-- Starts the TTL of an ended execution's keys, a chunk of jobs a call.
-- ARGV  execution, the place in its list of jobs where the chunk begins ('0' for the first), size of the chunk
-- FLAGS allow-oom
-- RETURNS the place of the next chunk; '' when all is done, or it is not ended
local x = X.get(ARGV[1])
if not EXECUTION_ENDED[x.status] then return '' end
return expire(x, ARGV[2], tonumber(ARGV[3]))
