-- Takes an item off the agenda.
-- ARGV  domain, item, the lease's mark
-- FLAGS allow-oom
-- RETURNS OK | AGAIN (it was posted anew meanwhile, and stays)
local score = redis.call('ZSCORE', K.agenda(ARGV[1]), ARGV[2])
if score and tonumber(score) ~= tonumber(ARGV[3]) then return 'AGAIN' end
redis.call('ZREM', K.agenda(ARGV[1]), ARGV[2])
return 'OK'
