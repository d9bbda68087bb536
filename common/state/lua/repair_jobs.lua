-- requires: repair
-- Finds jobs of open executions that cannot go on by themselves, and helps them on.
-- ARGV  look | mend, then ids of jobs (10 at most)
-- FLAGS allow-oom
-- RETURNS for each what is wrong with it, '' for nothing
-- KEEPS  what is wrong is told by one script's look alone; `look` changes nothing, and
--        mending twice no more than once. Where something is left to do for an execution
--        (its outbox, a retry that has begun) its jobs are not judged.
local mend = ARGV[1] == 'mend'

local function wrong_lease(job)
  job.claim = job.claim or ''
  local function lost() S.lost(job, 'losses', CFG.max_losses, CFG.lost_error) end
  if not R.is_node(job.worker_name) then return 'its node is not registered', lost end
  local attempt, claim = string.match(
    redis.call('HGET', K.node_leases(job.worker_name), job.id) or '', '^(%d+) (%S+)')
  if tonumber(attempt) == job.attempt and claim == job.claim then return end
  return 'its node holds no lease for it', function()
    local n = N.get(job.worker_name)
    if not n.incarnation or string.sub(job.claim, 1, #n.incarnation) ~= n.incarnation then return lost() end
    -- The node may well run it: with a lease, its beats say whether it does.
    redis.call('HSET', K.node_leases(n.id), job.id, job.attempt .. ' ' .. job.claim .. ' ' .. NOW_MS
      .. ' ' .. A.format(N.charge(n, job.needs)))
  end
end
local function wrong_fan_out(job)
  local key = K.group(job.execution, job.job)
  local v = redis.call('HMGET', key, 'total', 'created', 'settled', 'asked')
  local total, created, settled = tonumber(v[1] or -1), tonumber(v[2] or 0), tonumber(v[3] or 0)
  if total >= 0 and created >= total then
    if settled < total then return end
    return 'all its jobs have ended', function() F.push('group', job.execution, job.job) end
  end
  local x, item = X.get(job.execution), 'expand ' .. job.execution .. ' ' .. job.job
  -- The end of each job asks for more, unless that was asked already.
  if created > settled and not v[4] or R.on_agenda(x, item) then return end
  return 'no orchestrator is asked for the rest of its jobs', function()
    redis.call('HDEL', key, 'asked')
    post_agenda(x.domain, item)
  end
end
local function wrong_started(job, handed_over)
  if job.kind == 'run' or handed_over then return wrong_lease(job) end
  if job.kind == 'fan-out' then return wrong_fan_out(job) end
  local x, item = X.get(job.execution), 'fanin ' .. job.execution .. ' ' .. job.job
  if R.on_agenda(x, item) then return end
  return 'no orchestrator has it', function() post_agenda(x.domain, item) end
end

-- A job that counts no upstreams: what will move it?
local function wrong_held(job, x)
  local list, room
  if R.has(K.held(x.id), job.id) then
    list, room = K.held(x.id), x.admitted < x.parallelism or x.parallelism == 0
  elseif job.group and R.has(K.group_held(x.id, job.group), job.id) then
    local group = G.group(x.id, job.group)
    list, room = K.group_held(x.id, job.group), group.admitted < group.limit or group.limit == 0
  elseif R.has(K.parked(x.id), job.id) then
    if x.status == 'paused' then return end
    return 'parked, but its execution is not paused', function() F.push('unpark', x.id) end
  elseif job.unmet == '1' then
    local signature = job.class .. '|' .. job.needs
    if redis.call('SISMEMBER', K.unmet(), signature) == 1
      and R.has(K.unmet() .. ':' .. signature, job.id) then
      return
    end
  end
  if list and not room then return end
  return list and 'held, but there is room for it' or 'it waits for nothing', function()
    if list then redis.call('LREM', list, 1, job.id) end
    redis.call('HDEL', job.key, 'unmet')
    G.admit(job)
  end
end
local function wrong_ready(job, x, handed_over)
  if job.kind == 'run' or handed_over then return wrong_held(job, x) end
  local verb = job.kind == 'fan-out' and 'expand ' or 'fanin '
  if R.on_agenda(x, verb .. x.id .. ' ' .. job.job) then return end
  return 'no orchestrator is asked for it', function() G.ready(job) end
end
local function wrong_child(job, x)
  local fan_out = J.get(x.id .. '-' .. job.group)
  if not fan_out or fan_out.status == 'deferred' then return end
  return 'its fan-out goes on without it', function()
    if JOB_ENDED[fan_out.status] then return F.skip(job, job.group) end
    F.push('reopen', x.id, job.group, '0')
  end
end
local function wrong_deferred(job, x, handed_over, upstreams)
  if job.group and job.waits > NOT_COUNTED / 2 then return wrong_child(job, x) end
  local open, failed = F.upstreams(x.id, job.job, upstreams or '', true)
  if failed then return 'it waits, but ' .. failed .. ' failed', function() F.skip(job, failed) end end
  if open ~= job.waits then
    return 'it waits for ' .. job.waits .. ' jobs, but ' .. open .. ' are open', function()
      redis.call('HSET', job.key, 'waits', open)
      job.waits = open
      if open == 0 then G.ready(job) end
    end
  end
  if open == 0 then return wrong_ready(job, x, handed_over) end
end

local function look(job)
  local x = X.get(job.execution)
  local v = redis.call('HMGET', job.key, 'handed_over', 'upstreams')
  if JOB_ENDED[job.status] or X.closed(x) or not R.outbox_empty(x.id)
    or redis.call('HGET', K.execution(x.id), 'retrying') then
    return
  end
  if job.status == 'queued' then
    if R.has(K.queue(job.origin), job.id) then return end
    return 'it is in no queue', function() Q.enqueue(job, true) end
  elseif job.status == 'scheduled' then
    if redis.call('ZSCORE', K.due(), job.id) then return end
    return 'nothing says when it is due', function() redis.call('ZADD', K.due(), NOW_MS, job.id) end
  elseif job.status == 'started' then
    return wrong_started(job, v[1])
  end
  return wrong_deferred(job, x, v[1], v[2])
end

local out = {}
for i = 2, #ARGV do
  local job = J.get(ARGV[i])
  local what, help
  if job then what, help = look(job) else what = 'its hash is gone' end
  out[i - 1] = what or ''
  if mend and help then
    R.mended(job.execution, what, 'job', job.job)
    help()
    X.touch(X.get(job.execution))
    F.run()
    write_later() -- the next one is looked for in its list
  end
end
if mend then X.flush() end
return out
