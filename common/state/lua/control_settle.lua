-- requires: settle
-- An orchestrator settles a control job that it took.
-- ARGV  job, attempt, claim, outcome (finished | failed), result, error
-- RETURNS OK | STALE
local job = J.get(ARGV[1])
if not J.holds(job, tonumber(ARGV[2]), ARGV[3]) or X.closed(X.get(job.execution)) then
  return 'STALE'
end
if ARGV[4] == 'finished' then
  F.finish(job, 'finished', 'result', ARGV[5])
else
  H.record(job, 'failed', redis.call('HGET', job.key, 'started_at'), ARGV[6])
  F.finish(job, 'failed', 'error', ARGV[6])
end
F.run()
X.flush()
return 'OK'
