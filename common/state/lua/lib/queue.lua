-- requires: now iso event job nodes execution
-- Queue lists: entering them, waking a node for them, parking what no live
-- node could ever run.
-- `listed`: queues that this script has put on the list of those; `known`: others that held something; `fresh`:
-- jobs that it queued; `claims`: it goes on to claim; `may_inherit`: who may be the heir (later.lua).
local Q = {}
local idle_ids
each_call(function() Q.stamps, Q.listed, Q.known, Q.fresh, Q.claims, Q.may_inherit, idle_ids = 0, {}, {}, {}, false, false, nil end)
-- The time at which a job enters its list; jobs of one script keep their order.
local function stamp()
  local us = NOW_US + Q.stamps
  Q.stamps = Q.stamps + 1
  return iso(NOW_MS + math.floor(us / 1000), us % 1000)
end
-- Wakes the least loaded idle node that fits; each idle node at most once.
function Q.wake(class, needs)
  idle_ids = idle_ids or redis.call('ZRANGE', K.idle(), 0, -1)
  for i, id in ipairs(idle_ids) do
    local n = N.get(id)
    if not n.incarnation then
      redis.call('ZREM', K.idle(), id)
    elseif N.has_tags(n, class) and A.within(N.charge(n, needs), N.free(n)) then
      redis.call('ZREM', K.idle(), id)
      Q.wake_again(id)
      table.remove(idle_ids, i)
      return
    end
  end
end
-- A claim that had to stop early goes on with the next one.
function Q.wake_again(id)
  redis.call('LPUSH', K.node_inbox(id), 'wake')
  redis.call('EXPIRE', K.node_inbox(id), 60)
end
-- A queue that holds nothing is on no list.
function Q.unlist(name)
  Q.listed[name] = nil
  redis.call('ZREM', K.ready(), name)
end
-- Takes a job aside that no live node could run; it comes back when one could. Its
-- places pass to others (`on_parked`, in gates.lua).
function Q.park_unmet(job)
  local signature = job.class .. '|' .. job.needs
  redis.call('SADD', K.unmet(), signature)
  redis.call('RPUSH', K.unmet() .. ':' .. signature, job.id)
  local wants = job.class ~= 'any' and job.class .. (job.needs ~= '' and ' with ' or '') or ''
  redis.call('HSET', job.key, 'status', 'deferred', 'unmet', 1, 'reason', 'no live node offers ' .. wants .. job.needs)
  X.touch(X.get(job.execution))
  event('job_unmet', 'execution', job.execution, 'job', job.job, 'class', job.class, 'needs', job.needs)
  job.status = 'deferred'
  Q.on_parked(job)
end
local function list_queue(job)
  if Q.listed[job.origin] then return end
  Q.listed[job.origin] = true
  redis.call('ZADD', K.ready(), job.priority, job.origin)
  redis.call('SADD', K.queues(), K.queue(job.origin))
end
local function write_queued(job, ...)
  local new = rawget(job, 'unwritten')
  if new then
    new[5] = job.enqueued_at -- its `created_at`
    J.write(job, 'status', 'queued', ...)
  else
    J.write(job, 'status', 'queued', 'enqueued_at', job.enqueued_at, ...)
  end
  list_queue(job)
end
-- Puts a job into its list. At the front it keeps the time at which it first came.
function Q.enqueue(job, front)
  if not N.could_any(job.class, job.needs) then return Q.park_unmet(job) end
  X.touch(X.get(job.execution))
  local enqueued_at = front and job.enqueued_at or stamp()
  if job.reason then redis.call('HDEL', job.key, 'reason', 'unmet') end
  if heir then write_heir() end
  job.status, job.enqueued_at = 'queued', enqueued_at
  if front then
    redis.call('LPUSH', K.queue(job.origin), job.id)
    write_queued(job)
  elseif job == Q.may_inherit and #Q.fresh == 0 then
    heir = job
  else
    do_later('RPUSH', K.queue(job.origin), job.id)
    write_queued(job)
  end
  job_event('job_queued', job.execution, job.job)
  Q.fresh[#Q.fresh + 1] = job
  Q.fresh[job.id] = true
end
-- The heir goes the way of any other job.
write_heir = function()
  local job = heir
  heir = nil
  do_later('RPUSH', K.queue(job.origin), job.id)
  write_queued(job, 'waits', '0')
end
-- The heir, if this node may claim it: then no queue ever holds it.
function Q.take_heir(n, free)
  local job, x = heir, X.get(heir.execution)
  if X.closed(x) or x.status == 'paused' or not N.could(n, job.class, job.needs)
    or not A.within(N.charge(n, job.needs), free) then return nil end
  heir = nil
  if not Q.known[job.origin] then redis.call('SADD', K.queues(), K.queue(job.origin)) end
  return job
end
-- Wakes nodes for the jobs that this script queued, and did not claim (`Q.fresh[id]` is nil then).
function X.wake()
  for _, job in ipairs(Q.fresh) do
    if Q.fresh[job.id] and (not idle_ids or #idle_ids > 0) then Q.wake(job.class, job.needs) end
  end
end
