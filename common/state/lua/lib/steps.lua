-- requires: finish names
-- The steps of a cancel, a resume and a retry.
local function take_out(job)
  if Q.fresh[job.id] then write_later() end -- this script has queued it
  if job.status == 'started' then
    if job.origin then redis.call('ZREM', K.wip(job.origin), job.id .. ':' .. (job.claim or '')) end
  elseif job.status == 'scheduled' then
    redis.call('ZREM', K.due(), job.id)
  elseif job.status == 'queued' and redis.call('LLEN', K.queue(job.origin)) <= 1000 then
    -- In a longer list the entry is dropped by the claim that meets it.
    redis.call('LREM', K.queue(job.origin), 1, job.id)
  elseif job.unmet == '1' then
    local list = K.unmet() .. ':' .. job.class .. '|' .. job.needs
    if redis.call('LLEN', list) <= 1000 then redis.call('LREM', list, 1, job.id) end
  end
end

-- Visits an execution's jobs from the place `at` in its list on: where the next script goes on, nil at
-- the end.
local function each_job(x_id, at, visit)
  if heir then write_heir() end -- it may be one of them
  local room = STEP_LIMIT - F.touched
  if room <= 0 then return at end
  local names, more, chunks = names_from(x_id, at, room)
  F.touched = F.touched + chunks
  for _, name in ipairs(names) do
    F.touched = F.touched + 1
    local job = J.get(x_id .. '-' .. name)
    if job then visit(job) end
  end
  return more
end

-- Cancels what has not ended.
local function step_cancel(x_id, at, reason)
  local more = each_job(x_id, at, function(job)
    if JOB_ENDED[job.status] then return end
    take_out(job)
    F.finish(job, 'canceled', 'reason', reason)
    if job.kind == 'fan-out' then redis.call('DEL', K.group_held(x_id, job.job)) end
  end)
  if more then return { 'cancel', x_id, more, reason } end
  redis.call('DEL', K.held(x_id), K.parked(x_id))
end

-- A fan-out was stopped early: its jobs that have not ended are canceled.
local function step_stop(x_id, name, at)
  local more = each_job(x_id, at, function(job)
    if job.group ~= name or JOB_ENDED[job.status] then return end
    take_out(job)
    F.leave_out(job)
  end)
  if more then return { 'stop', x_id, name, more } end
  F.tell_nodes('cancel', x_id)
end

-- Puts parked jobs back at the heads of their lists, the last one first.
local function step_unpark(x_id)
  while true do
    if X.get(x_id).status == 'paused' then return end
    if F.touched >= STEP_LIMIT then return { 'unpark', x_id } end
    local id = redis.call('RPOP', K.parked(x_id))
    if not id then return end
    F.touched = F.touched + 1
    local job = J.get(id)
    if job and job.status == 'deferred' then Q.enqueue(job, true) end
  end
end

local function undo_child(job)
  local key = K.group(job.execution, job.group)
  redis.call('HINCRBY', key, 'settled', -1)
  redis.call('HINCRBY', key, 'unfinished', -1)
  if job.on_failure ~= 'continue' then redis.call('HINCRBY', key, 'bad', -1) end
end
-- A fan-out that ended well in spite of failed children opens again with them.
local function must_open_again(job)
  return job.kind == 'fan-out' and job.status == 'finished'
    and tonumber(redis.call('HGET', K.group(job.execution, job.job), 'unfinished') or 0) > 0
end
-- Its fan-out was stopped early.
local function is_left_out(job)
  return job.status == 'canceled' and job.group and stopped_by(job.execution, job.group)
end
local function reset_job(job, x)
  X.count(x, job.status, -1)
  local fault = job.status ~= 'canceled' and job.status ~= 'finished'
    and job.on_failure ~= 'continue' and job.tolerated ~= '1'
  if fault then X.count(x, 'faults', -1) end
  if job.origin then redis.call('ZREM', K.failed(job.origin), job.id) end
  redis.call('ZREM', K.dead(), job.id)
  if job.group then undo_child(job) end
  redis.call('HSET', job.key, 'status', 'deferred', 'crashes', 0, 'losses', 0, 'waits', NOT_COUNTED,
    'retried', job.attempt, 'retries_left', redis.call('HGET', job.key, 'retries') or CFG.retries,
    'special', 1)
  redis.call('HDEL', job.key, 'error', 'reason', 'ended_at', 'metrics', 'passed', 'handed_over',
    'unmet', 'fan_at', 'gate')
  if job.kind ~= 'fan-out' then redis.call('HDEL', job.key, 'result') end
  for _, verb in ipairs({ 'expand ', 'fanin ' }) do
    redis.call('ZREM', K.agenda(x.domain), verb .. x.id .. ' ' .. job.job)
  end
  job_event('job_deferred', job.execution, job.job)
end
local function keep_for_ever(job, x)
  redis.call('PERSIST', job.key)
  redis.call('HDEL', job.key, 'fan_at') -- what it had yet to tell went with the cancel
  redis.call('PERSIST', K.log(x.id, job.job))
  redis.call('PERSIST', K.history(x.id, job.job))
  if job.kind == 'fan-out' then
    redis.call('PERSIST', K.group(x.id, job.job))
    redis.call('PERSIST', K.folded(x.id, job.job))
    redis.call('DEL', K.group_held(x.id, job.job))
    redis.call('HDEL', K.group(x.id, job.job), 'admitted')
  end
end
local function begin_reset(x)
  x.closing, x.admitted = nil, 0
  redis.call('HDEL', K.execution(x.id), 'closing', 'ended_at', 'admitted', 'error', 'expiring')
  redis.call('DEL', K.held(x.id), K.parked(x.id))
  if x.status == 'pending' or redis.call('HGET', K.execution(x.id), 'compiled') ~= '1' then
    post_agenda(x.domain, 'compile ' .. x.id)
  end
end

-- retry, first pass: whatever did not succeed is deferred again, as new.
local function step_reset(x_id, at)
  local x = X.get(x_id)
  if F.touched >= STEP_LIMIT then return { 'reset', x_id, at } end
  if at == '0' then begin_reset(x) end
  local more = each_job(x_id, at, function(job)
    keep_for_ever(job, x)
    if not JOB_ENDED[job.status] or is_left_out(job) then return end
    if job.status ~= 'finished' or must_open_again(job) then reset_job(job, x) end
  end)
  if more then return { 'reset', x_id, more } end
  F.push('rewait', x_id, '0')
end

local function wait_anew(job)
  local upstreams = redis.call('HGET', job.key, 'upstreams') or ''
  local open, failed = F.upstreams(job.execution, job.job, upstreams)
  redis.call('HSET', job.key, 'waits', open)
  if failed then F.skip(job, failed) elseif open == 0 then G.ready(job) end
end

-- retry, second pass: jobs count their upstreams anew; those without any go on.
-- A fan-out's children wait until it opens again.
local function step_rewait(x_id, at)
  local more = each_job(x_id, at, function(job)
    if job.status == 'deferred' and not job.group then wait_anew(job) end
  end)
  if more then return { 'rewait', x_id, more } end
  redis.call('HDEL', K.execution(x_id), 'retrying')
  X.touch(X.get(x_id))
end

-- A fan-out has opened again: its children that were reset go on. If it could not, they end.
local function step_reopen(x_id, name, at)
  if stopped_by(x_id, name) then return step_stop(x_id, name, at) end
  local source = J.get(x_id .. '-' .. name)
  local more = each_job(x_id, at, function(job)
    -- Upstreams of its own may have told it of their end meanwhile.
    if job.group == name and job.status == 'deferred' and job.waits > NOT_COUNTED / 2 then
      if JOB_ENDED[source.status] then F.skip(job, name) else wait_anew(job) end
    end
  end)
  if more then return { 'reopen', x_id, name, more } end
end
