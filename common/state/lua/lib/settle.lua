-- requires: flow history
-- The end of one attempt, under its token.
local S = {}
-- Back to its list at once: handed back, or its process or node is gone.
-- (Not in a closed execution: the cancel that is under way ends it there.)
function S.requeue(job, why, ...)
  if X.closed(X.get(job.execution)) then return end
  redis.call('ZREM', K.wip(job.origin), job.id .. ':' .. job.claim)
  X.count(X.get(job.execution), 'running', -1)
  redis.call('HDEL', job.key, 'claim', 'worker_name', 'started_at')
  if select('#', ...) > 0 then redis.call('HSET', job.key, ...) end
  event('job_requeued', 'execution', job.execution, 'job', job.job, 'attempt', job.attempt, 'why', why)
  job.status = 'deferred'
  Q.enqueue(job, true)
end
-- A job claimed ahead (a rider) is no started job to RQ's tools until it has been here for a while, and so
-- runs, or takes longer than was thought: most have ended by then.
local RIDES_MS = 500
function S.show_rider(job, since, at_once)
  if not at_once and NOW_MS >= since and NOW_MS - since < RIDES_MS then return end
  if redis.call('ZADD', K.wip(job.origin), '+inf', job.id .. ':' .. job.claim) == 1 then
    redis.call('HSET', job.key, 'started_at', iso(since))
  end
end
-- When an attempt began; a rider that was never shown has only its lease (`job.since`).
local function began(job)
  return redis.call('HGET', job.key, 'started_at') or job.since and iso(job.since)
end
-- A daemon does not hold an attempt that it was given: the reply never reached it.
local NOT_HELD = '{"type": "NodeLost", "message": "the node did not hold the attempt any more"}'
function S.not_held(job)
  H.record(job, 'lost', began(job), NOT_HELD)
  S.requeue(job, 'not held')
end
local function to_dead_letter(job, status, ...)
  redis.call('ZADD', K.dead(), NOW_MS, job.id)
  F.finish(job, status, ...)
end
local function retry(job, delay_ms, error)
  redis.call('HSET', job.key, 'status', 'scheduled', 'error', error, 'retries_left', job.retries_left - 1,
    'special', 1)
  redis.call('HDEL', job.key, 'claim')
  redis.call('ZADD', K.due(), NOW_MS + delay_ms, job.id)
  if delay_ms < 2500 then ring_bell('') end -- sooner than orchestrators look by themselves
  X.count(X.get(job.execution), 'running', -1)
  event('job_scheduled', 'execution', job.execution, 'job', job.job, 'attempt', job.attempt,
    'in_ms', delay_ms)
  job.status = 'scheduled'
  G.release(job)
end
-- Splits a node's leases into jobs to move, the one that waited least first, so that
-- putting each at its list's head restores their order; and ids whose token is void.
function S.leased(node_id)
  write_later()
  local jobs, void = {}, {}
  local leases = redis.call('HGETALL', K.node_leases(node_id))
  for i = 1, #leases, 2 do
    local attempt, claim, since = string.match(leases[i + 1], '^(%d+) (%S+) (%d+)')
    local job = J.get(leases[i])
    if J.holds(job, tonumber(attempt), claim) then
      job.since = tonumber(since)
      jobs[#jobs + 1] = job
    else
      void[#void + 1] = leases[i]
    end
  end
  table.sort(jobs, function(a, b) return (a.enqueued_at or '') > (b.enqueued_at or '') end)
  return jobs, void
end
-- A job whose attempt is lost with its process or its node, too often: poison.
local LOST = '{"type": "NodeLost", "message": "the node was lost while it held the attempt", "traceback": ""}'
function S.lost(job, counter, limit, error, started_at)
  if job.worker_name then redis.call('HDEL', K.node_leases(job.worker_name), job.id) end
  if X.closed(X.get(job.execution)) then return end
  local crashed = counter == 'crashes'
  local why, times = crashed and error or LOST, job[counter] + 1
  H.record(job, crashed and 'crashed' or 'lost', started_at or began(job), why)
  if times >= limit or job.group and stopped_by(job.execution, job.group) then
    redis.call('ZREM', K.wip(job.origin), job.id .. ':' .. job.claim)
    if F.leave_out(job) then return end
    return to_dead_letter(job, 'failed', counter, times, 'error', error)
  end
  S.requeue(job, counter, counter, times, 'error', why)
end
-- Appends output of an attempt, up to its limit. `at` is how many bytes of it were sent
-- before: a request that comes twice, because its reply was lost, appends once. `logged`
-- is the attempt, its claim, where its output begins, and how much of it was sent.
local function append_log(job, attempt, node, text, at)
  if text == '' then return end
  local key, mark = K.log(job.execution, job.job), attempt .. ' ' .. job.claim
  local length = redis.call('STRLEN', key)
  local last, from, sent = string.match(redis.call('HGET', job.key, 'logged') or '',
    '^(%d+ %S+) (%d+) (%d+)$')
  local new = last ~= mark
  from, sent = new and length or tonumber(from), new and 0 or tonumber(sent)
  at = at or sent
  text = string.sub(text, math.max(0, sent - at) + 1)
  if text == '' then return end
  redis.call('HSET', job.key, 'logged', mark .. ' ' .. from .. ' ' .. math.max(sent, at) + #text)
  if new and attempt > 1 then
    text = '--- attempt ' .. attempt .. ' on ' .. node .. ' ---\n' .. text
  end
  local room = CFG.log_limit_bytes - (length - from)
  if room > 0 then redis.call('APPEND', key, string.sub(text, 1, room)) end
end
S.append_log = append_log
-- Settles the settlements from the one at argv[places[first]] on that one would tell of in the same words: of one
-- execution, queue and fan-out, first attempts that ended well and said no more than their result, hold no place,
-- and for which no other job waits. Without a table for each. How many these are; S.settle takes the others.
function S.settle_alike(argv, n, ids, places, first)
  local i, ended, names, leases, now = first, {}, {}, {}, now_iso()
  local x, start, origin, group
  while places[i] do
    local id, from = ids[i], places[i]
    local claim = argv[from + 2]
    if argv[from + 1] ~= '1' or argv[from + 3] ~= 'finished' or argv[from + 6] ~= '0' then break end
    if i == first then
      local x_id = parts_of(id)
      x = x_id and X.get(x_id)
      if not x or X.closed(x) then break end
      start = x_id .. '-'
    elseif string.sub(id, 1, #start) ~= start then
      break
    end
    local key = K.job(id)
    local v = redis.call('HMGET', key, 'status', 'origin', 'attempt', 'claim', 'group', 'gate', 'dependents',
      'started_at')
    if v[1] ~= 'started' or v[3] ~= '1' or v[4] ~= claim or v[6] or v[7] and v[7] ~= '' then break end
    if i == first then
      origin, group = v[2], v[5]
    elseif v[2] ~= origin or v[5] ~= group then
      break
    end
    if N.end_lease(n, id, 1, claim) then leases[#leases + 1] = id end
    if v[8] then do_later('ZREM', K.wip(origin), id .. ':' .. claim) end
    redis.call('HSET', key, 'status', 'finished', 'ended_at', now,
      'started_at', iso(NOW_MS - tonumber(argv[from + 5])), 'result', argv[from + 4])
    i = i + 1
    ended[i - first], names[i - first] = id, string.sub(id, #start + 1)
  end
  if #leases > 0 then redis.call('HDEL', n.leases_key, unpack(leases)) end
  if i > first then F.finished(x, origin, group, ended, names) end
  return i - first
end
-- Returns OK, or STALE when the token does not hold or the execution was closed, with
-- nothing recorded.
function S.settle(n, id, attempt, claim, outcome, result, took_ms, error, metrics, retry_ms, log)
  local job = J.held(id)
  N.drop_lease(n, id, attempt, claim)
  if not J.holds(job, attempt, claim) then
    event('settle_stale', 'node', n.id, 'id', id, 'attempt', attempt)
    return 'STALE'
  end
  if X.closed(X.get(job.execution)) then return 'STALE' end
  if log then append_log(job, attempt, n.id, log) end
  local started_at = iso(NOW_MS - took_ms)
  if outcome == 'crashed' then
    S.lost(job, 'crashes', CFG.max_crashes, error, started_at)
    return 'OK'
  end
  Q.known[job.origin] = true
  if job.started_at then do_later('ZREM', K.wip(job.origin), id .. ':' .. claim) end
  if outcome == 'finished' then
    if attempt > 1 then redis.call('HDEL', job.key, 'error') end
    if metrics and job.group then F.look_at(job, metrics) end
    F.finish(job, 'finished', 'started_at', started_at, 'result', result)
    return 'OK'
  end
  redis.call('HSET', job.key, 'started_at', started_at, 'ended_at', now_iso())
  H.record(job, outcome, started_at, error)
  if F.leave_out(job) then return 'OK' end
  if outcome == 'stopped' then
    F.finish(job, 'stopped', 'error', error)
  elseif retry_ms >= 0 and job.retries_left > 0 then
    retry(job, retry_ms, error)
  else
    to_dead_letter(job, 'failed', 'error', error)
  end
  return 'OK'
end
