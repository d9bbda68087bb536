-- requires: flow
-- Opens a fan-out: how many jobs it will have, and how many of them may run at once.
-- ARGV  execution, fan-out, total, max_parallel_jobs (0: no limit), window,
--       its result (JSON), 1 when children that have finished may be folded (group_fold), and at
--       which metric of a child the others need not run ('': none; see the model StopWhen)
-- RETURNS {OK | ENDED (or it waits for others), created so far, chunks so far, settled so far}
-- KEEPS  the first opening stays; opening again reads how far it is, and lets the
--        children's ends ask for more of them anew.
local x, name = X.get(ARGV[1]), ARGV[2]
local job = J.get(x.id .. '-' .. name)
if not job or JOB_ENDED[job.status] or job.waits > 0 or X.closed(x) then
  return { 'ENDED', 0, 0, 0 }
end
local key = K.group(x.id, name)
local first = redis.call('HSETNX', key, 'total', ARGV[3]) == 1
if first then
  redis.call('HSET', key, 'limit', ARGV[4], 'window', ARGV[5], 'created', 0, 'settled', 0)
  if ARGV[7] == '1' then redis.call('HSET', key, 'live', ' ') end
  if ARGV[8] ~= '' then redis.call('HSET', key, 'stop_when', ARGV[8]) end
  redis.call('HSET', job.key, 'result', ARGV[6])
end
if job.status == 'deferred' then
  redis.call('HSET', job.key, 'status', 'started', 'attempt', job.attempt + 1, 'started_at', now_iso())
  X.count(x, 'running', 1)
  event('job_started', 'execution', x.id, 'job', name, 'total', ARGV[3])
  F.push('group', x.id, name)
  if not first then F.push('reopen', x.id, name, '0') end
end
F.run()
redis.call('HDEL', key, 'asked')
X.flush()
local v = redis.call('HMGET', key, 'created', 'created_chunks', 'settled')
return { 'OK', tonumber(v[1] or 0), tonumber(v[2] or 0), tonumber(v[3] or 0) }
