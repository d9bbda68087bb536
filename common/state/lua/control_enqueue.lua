-- requires: flow
-- Hands a control job to the workers (a fan-in with a function of the user's).
-- ARGV  execution, job, payload (RQ's data)
-- RETURNS OK | ENDED (it has ended, or is on its way already)
local x = X.get(ARGV[1])
local job = J.get(ARGV[1] .. '-' .. ARGV[2])
if not job or job.status ~= 'deferred' or job.waits > 0 or X.closed(x)
  or redis.call('HGET', job.key, 'handed_over') then
  return 'ENDED'
end
redis.call('HSET', job.key, 'data', ARGV[3], 'handed_over', 1)
G.admit(job)
F.run()
X.flush()
return 'OK'
