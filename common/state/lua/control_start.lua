-- requires: flow
-- An orchestrator takes a control job (a fan-in) to run it itself.
-- ARGV  job, claim id, who
-- RETURNS {OK, attempt} | {ENDED, 0} when there is nothing to do, or not yet
-- KEEPS  a later taker makes the earlier one's token stale; the same claim id again gets
--        the same attempt.
local job = J.get(ARGV[1])
if not job or JOB_ENDED[job.status] or job.waits > 0 or X.closed(X.get(job.execution)) then
  return { 'ENDED', 0 }
end
if J.holds(job, job.attempt, ARGV[2]) then return { 'OK', job.attempt } end
if job.status ~= 'started' then X.count(X.get(job.execution), 'running', 1) end
redis.call('HSET', job.key, 'status', 'started', 'attempt', job.attempt + 1, 'claim', ARGV[2],
  'started_at', now_iso())
event('job_started', 'execution', job.execution, 'job', job.job, 'attempt', job.attempt + 1,
  'orchestrator', ARGV[3])
X.flush()
return { 'OK', job.attempt + 1 }
