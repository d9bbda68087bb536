-- requires: queue agenda
-- Admission: a job whose upstreams are done passes its fan-out's gate
-- (max_parallel_jobs), then its execution's (parallelism), then is queued. The
-- field `gate` (g, gx or x) says which places it holds until it leaves.
local G = {}
local groups
each_call(function() groups = {} end)
function G.group(x_id, name)
  local id = x_id .. '-' .. name
  if not groups[id] then
    local v = redis.call('HMGET', K.group(x_id, name), 'limit', 'admitted')
    groups[id] = { limit = tonumber(v[1] or 0), admitted = tonumber(v[2] or 0) }
  end
  return groups[id]
end
local function set_gate(job, gate)
  job.gate = gate
  redis.call('HSET', job.key, 'gate', gate)
end
local function count_group(job, by)
  local group = G.group(job.execution, job.group)
  group.admitted = group.admitted + by
  redis.call('HINCRBY', K.group(job.execution, job.group), 'admitted', by)
end
local function count_execution(x, by)
  x.admitted = x.admitted + by
  if not x.status then return end
  redis.call('HINCRBY', K.execution(x.id), 'admitted', by)
end
local function pass_execution(job, front)
  local x = X.get(job.execution)
  if x.parallelism > 0 then
    if x.admitted >= x.parallelism then
      return redis.call('RPUSH', K.held(x.id), job.id)
    end
    count_execution(x, 1)
    set_gate(job, (job.gate or '') .. 'x')
  end
  Q.enqueue(job, front)
end
function G.admit(job, front)
  local gate = job.gate or ''
  if string.find(gate, 'x', 1, true) or gate == 'g' and X.get(job.execution).parallelism == 0 then
    return Q.enqueue(job, front)
  end
  local group = gate == '' and job.group and G.group(job.execution, job.group)
  if group and group.limit > 0 then
    if group.admitted >= group.limit then
      return redis.call('RPUSH', K.group_held(job.execution, job.group), job.id)
    end
    count_group(job, 1)
    set_gate(job, 'g')
  end
  pass_execution(job, front)
end
-- The first job of a list that still waits there. 'more' where there were only others so far, which were
-- canceled meanwhile.
local function next_held(key)
  for _ = 1, 100 do
    local id = redis.call('LPOP', key)
    if not id then return nil end
    local job = J.get(id)
    if job and job.status == 'deferred' then return job end
  end
  return 'more'
end
-- Gives a job's places back; which they were.
local function give_back(job)
  local gate = job.gate
  if not gate or gate == '' then return '' end
  redis.call('HDEL', job.key, 'gate')
  job.gate = nil
  if string.find(gate, 'x', 1, true) then count_execution(X.get(job.execution), -1) end
  if string.find(gate, 'g', 1, true) then count_group(job, -1) end
  return gate
end
-- Lets the next job pass that is held at an execution's gate, or (`name`) at a fan-out's; what came of it
-- (as `next_held`).
local function pass_next(x, name)
  if X.closed(x) then return nil end
  local waiting = next_held(name and K.group_held(x.id, name) or K.held(x.id))
  if not waiting or waiting == 'more' then return waiting end
  if name then G.admit(waiting) else pass_execution(waiting) end
  return waiting
end
function G.pass_next(x, name)
  local gate = name and G.group(x.id, name)
  local limit, admitted = gate and gate.limit or x.parallelism, gate and gate.admitted or x.admitted
  return admitted < limit and pass_next(x, name)
end
-- Gives a job's places back and lets the next ones pass.
function G.release(job)
  if not job.gate then return end
  local x, gate = X.get(job.execution), give_back(job)
  if gate == '' then return end
  if string.find(gate, 'x', 1, true) and pass_next(x) == 'more' then G.pass_later(x.id) end
  if string.find(gate, 'g', 1, true) and pass_next(x, job.group) == 'more' then
    G.pass_later(x.id, job.group)
  end
end
-- One that is parked may be followed by thousands that are parked as well: a step of their own.
Q.on_parked = function(job)
  local gate = give_back(job)
  if string.find(gate, 'x', 1, true) then G.pass_later(job.execution) end
  if string.find(gate, 'g', 1, true) then G.pass_later(job.execution, job.group) end
end
-- All upstreams of a job are done.
function G.ready(job)
  local x = X.get(job.execution)
  if X.closed(x) then return end
  if job.kind == 'run' then return G.admit(job) end
  post_agenda(x.domain, (job.kind == 'fan-out' and 'expand ' or 'fanin ') .. x.id .. ' ' .. job.job)
end
