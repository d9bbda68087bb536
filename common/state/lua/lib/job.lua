-- requires: keys
-- A job's hash as a table, the fields that decisions need; nil when it is gone.
local J = {}
local JOB_FIELDS = { 'status', 'execution', 'job', 'kind', 'class', 'priority', 'origin', 'needs',
  'dependents', 'group', 'gate', 'on_failure', 'tolerated', 'attempt', 'claim', 'worker_name',
  'retries_left', 'crashes', 'losses', 'run', 'enqueued_at', 'passed', 'reserved_by',
  'waits', 'unmet' }
local JOB_NUMBERS = { priority = 5, attempt = 0, retries_left = 0, crashes = 0, losses = 0, passed = 0,
  waits = 0 }
function J.get(id)
  local values = redis.call('HMGET', K.job(id), unpack(JOB_FIELDS))
  if not values[1] then return nil end
  local job = { id = id, key = K.job(id) }
  for i, name in ipairs(JOB_FIELDS) do job[name] = values[i] or nil end
  for name, default in pairs(JOB_NUMBERS) do job[name] = tonumber(job[name] or default) end
  job.needs = job.needs or ''
  return job
end
function J.holds(job, attempt, claim)
  return job and job.status == 'started' and job.attempt == attempt and job.claim == claim
end
