-- requires: now
-- The stream of events holds every transition: its name, then pairs of fields. A script's first one
-- takes the oldest off. One entry stands for up to TOGETHER jobs of an execution that made the same
-- transition one after another: their names are in its field `job`, separated by spaces.
local KEPT, TOGETHER = '50000', 16
local trimmed, together
each_call(function() trimmed, together = false, nil end)
local function add_event(name, ...)
  if trimmed then return redis.call('XADD', K.events(), '*', 'event', name, ...) end
  trimmed = true
  redis.call('XADD', K.events(), 'MAXLEN', '~', KEPT, '*', 'event', name, ...)
end
-- Writes what `job_event` has collected: before any other event, and with write_later.
local function write_events()
  local e = together
  if not e then return end
  together = nil
  add_event(e.name, 'execution', e.execution, 'job', table.concat(e.jobs, ' '), unpack(e.fields))
end
local function event(name, ...)
  write_events()
  add_event(name, ...)
end
-- A transition of a job, with up to four fields.
local function job_event(name, execution, job, field1, value1, field2, value2, field3, value3, field4, value4)
  local e = together
  if e and e.name == name and e.execution == execution and e.value1 == value1 and e.value2 == value2
    and e.value3 == value3 and e.value4 == value4 and #e.jobs < TOGETHER then
    e.jobs[#e.jobs + 1] = job
    return
  end
  write_events()
  together = { name = name, execution = execution, jobs = { job }, value1 = value1, value2 = value2,
    value3 = value3, value4 = value4, fields = { field1, value1, field2, value2, field3, value3, field4, value4 } }
end
-- The same transition of many jobs.
local function job_events(name, execution, jobs, ...)
  write_events()
  for i = 1, #jobs, TOGETHER do
    local some = table.concat(jobs, ' ', i, math.min(i + TOGETHER - 1, #jobs))
    add_event(name, 'execution', execution, 'job', some, ...)
  end
end
