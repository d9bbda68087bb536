-- requires: keys
-- A job's hash as a table: the fields that most decisions need are read at once, the
-- others when one of them is asked for. Its execution and name are in its id, its class
-- and priority in its queue's name.
local J = {}
local NUMBERS = { retries = true, crashes = true, losses = true, passed = true }
local OTHERS = { on_failure = true, tolerated = true, worker_name = true, retries_left = true, retries = true,
  crashes = true, losses = true, passed = true, reserved_by = true, unmet = true }
local classes = {}

local function class_of(origin)
  if not origin then return {} end
  if not classes[origin] then
    local class, priority = string.match(origin, '^(.*)%.p(%d+)$')
    classes[origin] = { class = class, priority = tonumber(priority) }
  end
  return classes[origin]
end
local function read_others(job)
  local names = {}
  for name in pairs(OTHERS) do names[#names + 1] = name end
  local values = redis.call('HMGET', job.key, unpack(names))
  for i, name in ipairs(names) do
    local value = values[i] or nil
    if NUMBERS[name] then value = tonumber(value or 0) end
    if rawget(job, name) == nil then rawset(job, name, value) end
  end
  job.retries_left = tonumber(job.retries_left or job.retries) -- those that are left, once one was made
end
local lazy = { __index = function(job, name)
  if name == 'class' or name == 'priority' then return class_of(job.origin)[name] end
  if not OTHERS[name] or rawget(job, 'all_read') then return nil end
  rawset(job, 'all_read', true)
  read_others(job)
  return rawget(job, name)
end }
local function make(id, status, origin, needs, attempt, claim, group, gate, dependents, kind, run, enqueued_at,
    waits, reason)
  local execution, name = string.match(id, '^([^-]*)-(.*)$')
  return setmetatable({ id = id, key = K.job(id), execution = execution, job = name, status = status,
    origin = origin or nil, needs = needs or '', attempt = tonumber(attempt or 0), claim = claim or nil,
    group = group or nil, gate = gate or nil, dependents = dependents or nil, kind = kind or 'run',
    run = run or nil, enqueued_at = enqueued_at or nil, waits = tonumber(waits or 0), reason = reason or nil },
    lazy)
end
-- nil when it is gone.
function J.get(id)
  local values = redis.call('HMGET', K.job(id), 'status', 'origin', 'needs', 'attempt', 'claim', 'group',
    'gate', 'dependents', 'kind', 'run', 'enqueued_at', 'waits', 'reason')
  return values[1] and make(id, unpack(values, 1, 13)) or nil
end
-- One that is not in Redis yet: `row` is its key and its fields, as HSET takes them, with
-- its status first. It is written with the first change of its status, or by J.write.
function J.new(id, row, fields)
  local job = make(id, row[3], fields.origin, fields.needs, nil, nil, fields.group, nil, fields.dependents,
    fields.kind, fields.run)
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
