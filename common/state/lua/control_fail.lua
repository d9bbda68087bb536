-- requires: settle
-- Fails a control job that cannot be carried out (without a job: an execution that cannot be compiled).
-- ARGV  execution, job ('' for the execution), error (JSON)
-- RETURNS OK | ENDED (it has ended, is run by another, waits for others, was stopped early, or was compiled
--       by another)
local x = X.get(ARGV[1])
if X.closed(x) then return 'ENDED' end
if ARGV[2] == '' then
  if redis.call('HGET', K.execution(x.id), 'compiled') == '1' then return 'ENDED' end
  x.status = 'failed'
  redis.call('HSET', K.execution(x.id), 'status', 'failed', 'error', ARGV[3], 'ended_at', now_iso())
  event('execution_ended', 'execution', x.id, 'status', 'failed')
  F.cut_short(x, 'failed')
else
  local job = J.get(x.id .. '-' .. ARGV[2])
  -- A fan-out that cannot go on has started; those of its jobs that exist run to their end.
  local open = job and (job.status == 'deferred' or job.kind == 'fan-out' and job.status == 'started')
  if not open or job.waits > 0 or stopped_by(x.id, job.job) then return 'ENDED' end
  F.finish(job, 'failed', 'error', ARGV[3])
  if job.kind == 'fan-out' then F.push('reopen', x.id, job.job, '0') end
end
F.run()
X.flush()
return 'OK'
