-- requires: settle
-- Appends output of a running attempt.
-- ARGV  node, job, attempt, claim, how many bytes of it were sent before, text
-- RETURNS OK | STALE
-- KEEPS  each byte is appended once, however often it is sent.
local job = J.get(ARGV[2])
if not J.holds(job, tonumber(ARGV[3]), ARGV[4]) then return 'STALE' end
S.append_log(job, tonumber(ARGV[3]), ARGV[1], ARGV[6], tonumber(ARGV[5]))
redis.call('PUBLISH', K.channel(job.execution), 'log ' .. job.job)
return 'OK'
