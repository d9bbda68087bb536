-- requires: queue agenda
-- Admission: a job whose upstreams are done passes its fan-out's gate
-- (max_parallel_jobs), then its execution's (parallelism), then is queued. The
-- field `gate` (g, gx or x) says which places it holds until it leaves.
local G = {}
local groups = {}
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
  if job.gate and job.gate ~= '' then return Q.enqueue(job, front) end
  local group = job.group and G.group(job.execution, job.group)
  if group and group.limit > 0 then
    if group.admitted >= group.limit then
      return redis.call('RPUSH', K.group_held(job.execution, job.group), job.id)
    end
    count_group(job, 1)
    set_gate(job, 'g')
  end
  pass_execution(job, front)
end
-- The first job of a list that still waits there.
local function next_held(key)
  for _ = 1, 500 do
    local id = redis.call('LPOP', key)
    if not id then return nil end
    local job = J.get(id)
    if job and job.status == 'deferred' then return job end
  end
end
-- Gives a job's places back and lets the next ones pass.
function G.release(job)
  local gate = job.gate
  if not gate or gate == '' then return end
  redis.call('HDEL', job.key, 'gate')
  job.gate = nil
  local x = X.get(job.execution)
  if string.find(gate, 'x', 1, true) then
    count_execution(x, -1)
    local waiting = not X.closed(x) and next_held(K.held(x.id))
    if waiting then pass_execution(waiting) end
  end
  if string.find(gate, 'g', 1, true) then
    count_group(job, -1)
    local waiting = not X.closed(x) and next_held(K.group_held(x.id, job.group))
    if waiting then G.admit(waiting) end
  end
end
Q.on_parked = G.release
-- All upstreams of a job are done.
function G.ready(job)
  local x = X.get(job.execution)
  if X.closed(x) then return end
  if job.kind == 'run' then return G.admit(job) end
  post_agenda(x.domain, (job.kind == 'fan-out' and 'expand ' or 'fanin ') .. x.id .. ' ' .. job.job)
end
