-- requires: remembered
-- A job's hash as a table. Each field that is read costs, most of all one that is not there: so
-- `J.held` reads what a settlement needs, `J.get` also what lets a job go on (WORK), and the others
-- are read when one of them is asked for. Its execution and name are in its id, its class and
-- priority in its queue's name. A job that was queued when it was made has no `enqueued_at`: that is its
-- `created_at`.
local J = {}
local WORK = { needs = true, kind = true, run = true, enqueued_at = true, waits = true, reason = true }
local OTHERS = { on_failure = true, tolerated = true, worker_name = true, retries_left = true, retries = true,
  crashes = true, losses = true, passed = true, reserved_by = true, unmet = true }
-- Fields that few jobs have, and that a claim reads only where the field `special` says that there are any: a
-- field that is not there is looked for through all the others.
local SELDOM = { needs = true, refs = true, timeout = true, timeout_s = true, retry = true, retries = true,
  retries_left = true, reserved_by = true }
local NUMBERS = { crashes = true, losses = true, passed = true }
local class_of = remembered(function(origin)
  local class, priority = string.match(origin, '^(.*)%.p(%d+)$')
  return { class = class, priority = tonumber(priority) }
end)
local function read_others(job)
  local names = {}
  for name in pairs(OTHERS) do names[#names + 1] = name end
  local values = redis.call('HMGET', job.key, unpack(names))
  for i, name in ipairs(names) do
    local value = values[i] or nil
    if NUMBERS[name] then value = tonumber(value or 0) end
    if rawget(job, name) == nil then rawset(job, name, value) end
  end
  job.retries_left = tonumber(job.retries_left or job.retries or CFG.retries)
end
local function read_work(job)
  local v = redis.call('HMGET', job.key, 'needs', 'kind', 'run', 'created_at', 'enqueued_at', 'waits', 'reason')
  job.needs, job.kind, job.run = v[1] or '', v[2] or 'run', v[3]
  job.enqueued_at, job.waits, job.reason = v[5] or v[4], tonumber(v[6] or 0), v[7]
end
local lazy = { __index = function(job, name)
  if name == 'class' or name == 'priority' then return job.origin and class_of(job.origin)[name] end
  if WORK[name] and rawget(job, 'needs') == nil then
    read_work(job)
  elseif OTHERS[name] and not rawget(job, 'all_read') then
    rawset(job, 'all_read', true)
    read_others(job)
  else
    return nil
  end
  return rawget(job, name)
end }
-- A field that is not there is false: it is not asked for again. (Sixteen fields: a seventeenth doubles what
-- the table takes.)
local function job_table(id, key, execution, name, status, origin, attempt, claim, group, gate, dependents, needs, kind,
  run, enqueued_at, waits, reason)
  local job = setmetatable({ id = id, key = key, execution = execution, job = name, status = status,
    origin = origin, attempt = tonumber(attempt or 0), claim = claim, group = group, gate = gate,
    dependents = dependents, needs = needs or '', kind = kind or 'run', run = run, enqueued_at = enqueued_at,
    waits = tonumber(waits or 0) }, lazy)
  if reason then job.reason = reason end
  return job
end
-- The execution and the name in an id; the next one is mostly of the same execution.
local parted, start = nil, '-'
local function parts_of(id)
  if string.sub(id, 1, #start) ~= start then
    local at = string.find(id, '-', 1, true)
    if not at then return nil end
    parted, start = string.sub(id, 1, at - 1), string.sub(id, 1, at)
  end
  return parted, string.sub(id, #start + 1)
end
-- nil when it is gone.
function J.get(id)
  local key = K.job(id)
  local v = redis.call('HMGET', key, 'status', 'origin', 'attempt', 'claim', 'group', 'gate', 'dependents',
    'needs', 'kind', 'run', 'enqueued_at', 'waits', 'reason', 'created_at')
  if not v[1] then return nil end
  local execution, name = parts_of(id)
  v[11] = v[11] or v[14]
  return job_table(id, key, execution, name, unpack(v, 1, 13))
end
-- The same of one that somebody says to hold. What RQ's tools were never shown as started (a rider) has no
-- `started_at`.
function J.held(id)
  local key = K.job(id)
  local v = redis.call('HMGET', key, 'status', 'origin', 'attempt', 'claim', 'group', 'gate', 'dependents',
    'started_at')
  if not v[1] then return nil end
  local execution, name = parts_of(id)
  return setmetatable({ id = id, key = key, execution = execution, job = name, status = v[1], origin = v[2],
    attempt = tonumber(v[3] or 0), claim = v[4], group = v[5], gate = v[6], dependents = v[7],
    started_at = v[8] }, lazy)
end
-- One that is not in Redis yet: `row` is its key and its fields, as HSET takes them, with
-- its status first, and `created_at` next. It is written with the first change of its status, or by J.write.
function J.new(execution, name, row, fields)
  local job = job_table(execution .. '-' .. name, row[1], execution, name, row[3], fields.origin, 0, nil,
    fields.group or false, false, fields.dependents, fields.needs, fields.kind, fields.run, nil, 0)
  job.unwritten = row
  return job
end
-- Writes fields; of a new job all of them.
function J.write(job, ...)
  local row = rawget(job, 'unwritten')
  if not row then return redis.call('HSET', job.key, ...) end
  job.unwritten = nil
  local at, more = #row, { ... }
  for i = 1, #more, 2 do
    if more[i] == 'status' then
      row[3] = more[i + 1]
    else
      row[at + 1], row[at + 2] = more[i], more[i + 1]
      at = at + 2
    end
  end
  redis.call('HSET', unpack(row))
end
function J.holds(job, attempt, claim)
  return job and job.status == 'started' and job.attempt == attempt and job.claim == claim
end
