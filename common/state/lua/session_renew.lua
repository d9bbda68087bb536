-- requires: agenda
-- The program of a session lives: orchestrators leave it open for so long.
-- ARGV  execution, its domain, for how long (ms)
-- FLAGS allow-oom
-- RETURNS OK | CLOSED
local mark, item = lease_mark(tonumber(ARGV[3])), 'compile ' .. ARGV[1]
if not redis.call('ZSCORE', K.agenda(ARGV[2]), item) then return 'CLOSED' end
redis.call('ZADD', K.agenda(ARGV[2]), mark, item)
return 'OK'
