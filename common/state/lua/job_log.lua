-- requires: settle
-- Appends output of a running attempt.
-- ARGV  node, job, attempt, claim, text
-- RETURNS OK | STALE
local job = J.get(ARGV[2])
if not J.holds(job, tonumber(ARGV[3]), ARGV[4]) then return 'STALE' end
S.append_log(job, tonumber(ARGV[3]), ARGV[1], ARGV[5])
redis.call('PUBLISH', K.channel(job.execution), 'log ' .. job.job)
return 'OK'
