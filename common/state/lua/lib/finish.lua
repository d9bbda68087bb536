-- requires: text gates
-- What follows from a job's end: dependents, fan-outs, skipped branches. Work is a list
-- of steps (flow.lua runs them); a script touches at most STEP_LIMIT jobs.
local F = {}
local STEP_LIMIT = 200
local JOB_ENDED = { finished = true, failed = true, stopped = true, canceled = true }

function F.push(...) F.steps[#F.steps + 1] = { ... } end

-- When a registry of RQ's forgets an ended job.
local function expires(x)
  x.expires_s = x.expires_s or TEXT[math.floor(NOW_MS / 1000) + x.ttl_s]
  return x.expires_s
end
local function register_end(job, x, status)
  if not job.origin then return end
  local registry = status == 'finished' and K.finished(job.origin)
    or status ~= 'canceled' and K.failed(job.origin)
  if not registry then return end
  do_later('ZADD', registry, expires(x), job.id)
end

local group_child_ended -- below: a fan-out ends by `finish` as well
local dependents_of -- of jobs that ended in this script

-- The one place where a job reaches a terminal state, but for those of F.finished. `...` are further fields.
function F.finish(job, status, ...)
  local x = X.get(job.execution)
  redis.call('HSET', job.key, 'status', status, 'ended_at', now_iso(), ...)
  register_end(job, x, status)
  X.count(x, status, 1)
  if job.status == 'started' then X.count(x, 'running', -1) end
  job.status = status
  local ok = status == 'finished' or job.on_failure == 'continue'
  local fault = not ok and status ~= 'canceled' and job.tolerated ~= '1'
  if fault then X.count(x, 'faults', 1) end
  job_event('job_' .. status, job.execution, job.job, 'attempt', TEXT[job.attempt])
  G.release(job)
  if job.group then group_child_ended(job, status) end
  if job.dependents and job.dependents ~= '' then
    dependents_of[job.id] = job.dependents
    F.push('fan', job.execution, job.job, 1, ok and 1 or 0)
  end
  if fault and x.policy == 'fail_fast' and not x.closing then
    F.close(x, 'failed')
    F.push('cancel', x.id, '0', 'fail_fast')
  end
end

-- The child for which a fan-out was stopped early (`stop_when`): its other jobs need not run, and those that
-- are canceled then count as if they had never been made. False where there is none.
local stopped
local function stopped_by(x_id, name)
  local key = K.group(x_id, name)
  if stopped[key] == nil then stopped[key] = redis.call('HGET', key, 'stopped_by') end
  return stopped[key]
end

-- What became of `stop_when`, where somebody may wonder.
local function about_stop(x_id, name, total)
  local v = redis.call('HMGET', K.group(x_id, name), 'stopped_by', 'stop_when', 'metric_seen')
  if v[1] then return v[1] .. ' met stop_when' end
  if v[2] and not v[3] and total > 0 then
    return 'stop_when: no job had a metric ' .. cjson.decode(v[2]).metric_name
  end
end

-- A fan-out is done when all its children were made and all have ended. Of the children that end
-- in one script the first asks for this, and the answer holds for all.
local asked_for
local function check_later(x_id, name)
  local group = x_id .. ' ' .. name
  if asked_for[group] then return end
  asked_for[group] = true
  F.push('group', x_id, name)
end
local function group_check(x_id, name)
  asked_for[x_id .. ' ' .. name] = nil
  write_later()
  local v = redis.call('HMGET', K.group(x_id, name), 'total', 'created', 'settled', 'bad', 'window')
  local total, created, settled = tonumber(v[1]), tonumber(v[2] or 0), tonumber(v[3] or 0)
  local source = J.get(x_id .. '-' .. name)
  if not total or not source or source.status ~= 'started' then return end
  if settled >= total then
    local about = about_stop(x_id, name, total)
    if about then redis.call('HSET', source.key, 'reason', about) end
    local bad = tonumber(v[4] or 0)
    if bad == 0 or source.tolerated == '1' then
      F.finish(source, 'finished')
    else
      F.finish(source, 'failed', 'error', cjson.encode({ type = 'ChildrenFailed',
        message = bad .. ' of ' .. total .. ' jobs of ' .. name .. ' failed', traceback = '' }))
    end
  elseif created > 0 and created < total and created - settled <= math.floor(tonumber(v[5] or 1000) / 2)
    and redis.call('HSETNX', K.group(x_id, name), 'asked', 1) == 1 then
    post_agenda(X.get(x_id).domain, 'expand ' .. x_id .. ' ' .. name)
  end
end

-- What follows where jobs of one execution, queue and fan-out (if any) have ended well, at their first attempt,
-- that hold no place and for which no other waits: as F.finish, whose changes of their hashes are made already.
function F.finished(x, origin, group, ids, names)
  local expires_s = expires(x)
  local ends = { 'ZADD', K.finished(origin) }
  for i, id in ipairs(ids) do ends[2 * i + 1], ends[2 * i + 2] = expires_s, id end
  redis.call(unpack(ends))
  X.count(x, 'finished', #ids)
  X.count(x, 'running', -#ids)
  job_events('job_finished', x.id, names, 'attempt', '1')
  if group then
    count_later(K.group(x.id, group), 'settled', #ids)
    check_later(x.id, group)
  end
end

group_child_ended = function(job, status)
  local key = K.group(job.execution, job.group)
  count_later(key, 'settled', 1)
  if status ~= 'finished' and not (status == 'canceled' and stopped_by(job.execution, job.group)) then
    count_later(key, 'unfinished', 1)
    if job.on_failure ~= 'continue' then count_later(key, 'bad', 1) end
  end
  check_later(job.execution, job.group)
end

-- A child's metrics may be what its fan-out looks for: then no more of its jobs are made, and those that
-- have not ended end.
local looked_for
local function is_met(when, value)
  if when.at_least then return value >= when.at_least end
  return value <= when.at_most
end
function F.look_at(job, metrics)
  local x_id, name = job.execution, job.group
  local key = K.group(x_id, name)
  if looked_for[key] == nil then
    local text = redis.call('HGET', key, 'stop_when')
    looked_for[key] = text and cjson.decode(text)
  end
  local when = looked_for[key]
  local value = when and metrics ~= '' and cjson.decode(metrics)[when.metric_name]
  if type(value) ~= 'number' then return end
  if not when.seen then
    when.seen = true
    redis.call('HSET', key, 'metric_seen', 1)
  end
  if not is_met(when, value) then return end
  local source = not stopped_by(x_id, name) and J.get(x_id .. '-' .. name)
  if not source or source.status ~= 'started' then return end
  stopped[key] = job.job
  redis.call('HSET', key, 'stopped_by', job.job, 'total', redis.call('HGET', key, 'created'))
  redis.call('DEL', K.group_held(x_id, name))
  event('group_stopped', 'execution', x_id, 'job', name, 'by', job.job)
  F.push('stop', x_id, name, '0')
end
-- A job of a fan-out that was stopped early need not run (again): did it end for that?
function F.leave_out(job)
  local by = job.group and stopped_by(job.execution, job.group)
  if not by then return false end
  F.finish(job, 'canceled', 'reason', by .. ' met stop_when')
  return true
end

-- What a job's upstreams (`a b?`) mean for it now: how many are open, and one that
-- ended badly. One that has ended but has yet to tell this job of it counts as open,
-- unless nothing is left to be told (`all_told`). `seen` keeps what was read of them for others that wait
-- for the same ones, while nothing changes.
local function not_told_yet(id, name, from, seen)
  seen.told = seen.told or ' ' .. (redis.call('HGET', K.job(id), 'dependents') or '') .. ' '
  local at = string.find(seen.told, ' ' .. name .. ' ', 1, true)
    or string.find(seen.told, ' ' .. name .. '?', 1, true)
  return at and at >= tonumber(from)
end
function F.upstreams(x_id, name, text, all_told, seen)
  local open, failed = 0, nil
  for upstream, any_end in string.gmatch(text, '([^ ?]+)(%??)') do
    local id = x_id .. '-' .. upstream
    local v = seen and seen[id] or redis.call('HMGET', K.job(id), 'status', 'on_failure', 'fan_at')
    if seen then seen[id] = v end
    if not JOB_ENDED[v[1]] or v[3] and not all_told and not_told_yet(id, name, v[3], v) then
      open = open + 1
    elseif v[1] ~= 'finished' and any_end == '' and v[2] ~= 'continue' then
      failed = upstream
    end
  end
  return open, failed
end
function F.skip(job, upstream)
  F.finish(job, 'canceled', 'reason', 'upstream ' .. upstream .. ' did not succeed')
end

-- Tells the dependents of an ended job, from position `at` of its list on. A
-- dependent with a question mark does not mind how the job ended. While some have
-- yet to be told, the job's `fan_at` says from where on.
local function step_fan(x_id, name, at, ok)
  local id = x_id .. '-' .. name
  local dependents = dependents_of[id]
  if not dependents then
    local v = redis.call('HMGET', K.job(id), 'dependents', 'status')
    if not JOB_ENDED[v[2]] then return end -- a retry came before
    dependents = v[1] or ''
  end
  at, ok = tonumber(at), tonumber(ok) == 1
  while true do
    local from, to, dependent, any_end = string.find(dependents, '([^ ?]+)(%??)', at)
    if not from then break end
    if F.touched >= STEP_LIMIT then return { 'fan', x_id, name, from, ok and 1 or 0 } end
    F.touched = F.touched + 1
    at = to + 1
    local job = J.get(x_id .. '-' .. dependent)
    if job and job.status == 'deferred' then
      if not ok and any_end == '' then
        F.skip(job, name)
      else
        job.waits = job.waits - 1
        Q.may_inherit = Q.claims and job
        if job.waits == 0 then G.ready(job) end
        if heir ~= job then redis.call('HSET', job.key, 'waits', job.waits) end
      end
    end
  end
  if F.draining then redis.call('HDEL', K.job(id), 'fan_at') end
end

-- Tells every node that holds leases: `cancel` ends what it has of the execution,
-- `pause` hands back what it has not begun.
function F.tell_nodes(verb, x_id)
  for _, id in ipairs(redis.call('ZRANGE', K.nodes(), 0, -1)) do
    if redis.call('HLEN', K.node_leases(id)) > 0 then
      redis.call('LPUSH', K.node_inbox(id), verb .. ' ' .. x_id)
      redis.call('EXPIRE', K.node_inbox(id), 60)
    end
  end
end
-- Nothing of it may start, or be recorded, from here on; its nodes learn of it at once.
function F.close(x, why)
  x.closing = why
  redis.call('HSET', K.execution(x.id), 'closing', why)
  F.tell_nodes('cancel', x.id)
end
-- It has ended, whatever its jobs are at: they are canceled, in place of all that was left to do.
function F.cut_short(x, why)
  redis.call('DEL', K.outbox(x.id))
  redis.call('HDEL', K.execution(x.id), 'retrying')
  F.close(x, why)
  F.push('cancel', x.id, '0', why)
  X.touch(x)
end

-- Lets what is held at a gate pass while there is room (`pass_later`, once a script and gate).
local passing
function G.pass_later(x_id, name)
  local gate = x_id .. ' ' .. (name or '')
  if passing[gate] then return end
  passing[gate] = true
  F.push('pass', x_id, name)
end
local function step_pass(x_id, name)
  while F.touched < STEP_LIMIT do
    passing[x_id .. ' ' .. (name or '')] = true
    F.touched = F.touched + 1
    local passed = G.pass_next(X.get(x_id), name)
    if passed == 'more' then
      F.touched = F.touched + 50 -- so much they cost
    elseif not passed then
      passing[x_id .. ' ' .. (name or '')] = nil
      return
    end
  end
  return { 'pass', x_id, name }
end

-- `waits` is out of reach until the second pass has counted it anew.
local NOT_COUNTED = 1000000

each_call(function()
  F.steps, F.head, F.touched, F.draining = {}, 1, 0, false
  dependents_of, stopped, asked_for, looked_for, passing = {}, {}, {}, {}, {}
end)
