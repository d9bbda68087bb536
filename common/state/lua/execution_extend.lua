-- requires: flow
-- Adds one chunk of jobs to an execution, once; those with nothing to wait for go on.
-- ARGV  execution, stage (':static' or a fan-out's name), number of the chunk (from 0),
--       1 when it is the stage's last, the count of what all its jobs have in common and
--       that (pairs of fields), then for each job: its name, the names it waits for
--       (`a b?`: b's outcome does not matter), the count of its own fields and these
-- RETURNS OK | DONE (this chunk is there already) | AHEAD (an earlier one is missing)
--       | CLOSED (the execution has ended or is gone, or the fan-out was stopped early)
--       | RETRYING (a retry has yet to look at some of its jobs, and would take the new ones' places away)
-- KEEPS  each chunk is applied at most once, in order; a job exists before any of
--        its upstreams can tell it of their end, or sees that end here. In a session, whose
--        upstreams were made before anybody knew of this job, they learn of it here.
local x_id, stage, number, last = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local x = X.get(x_id)
if X.closed(x) then return 'CLOSED' end
local chunk_field = stage == ':static' and 'chunks' or 'created_chunks'
local chunk_key = stage == ':static' and K.execution(x_id) or K.group(x_id, stage)
if stage ~= ':static' and stopped_by(x_id, stage) then return 'CLOSED' end
local expected = tonumber(redis.call('HGET', chunk_key, chunk_field) or 0)
if number < expected then return 'DONE' end
if number > expected then return 'AHEAD' end
if redis.call('HGET', K.execution(x_id), 'retrying') then return 'RETRYING' end

redis.call('HSET', chunk_key, chunk_field, number + 1)
if x.status == 'pending' then
  x.status = 'running'
  redis.call('HSET', K.execution(x_id), 'status', 'running')
  event('execution_running', 'execution', x_id)
end
redis.call('HSETNX', K.execution(x_id), 'started_at', now_iso())
local common = { '', 'status', 'deferred', 'created_at', now_iso() }
local fields = {}
-- Those of a job's fields that decisions need.
local DECIDING = { origin = true, group = true, dependents = true, needs = true, kind = true, run = true }
local is_common = { __index = fields }
local own = 6 + tonumber(ARGV[5])
for i = 6, own - 1 do common[i] = ARGV[i] end
local special = false
for i = 6, own - 1, 2 do
  fields[ARGV[i]] = ARGV[i + 1]
  special = special or SELDOM[ARGV[i]]
end
if special then common[own], common[own + 1] = 'special', '1' end

-- What the jobs have of their own stands in ARGV from `begins[i]` to `ends[i]`.
local names, upstreams_of, begins, ends, count, alike = {}, {}, {}, {}, 0, true
local at, arguments = own, #ARGV
while at <= arguments do
  count = count + 1
  names[count], upstreams_of[count], begins[count] = ARGV[at], ARGV[at + 1], at + 3
  at = at + 3 + tonumber(ARGV[at + 2])
  ends[count] = at - 1
  alike = alike and upstreams_of[count] == ''
  for i = begins[count], ends[count], 2 do alike = alike and not (DECIDING[ARGV[i]] or SELDOM[ARGV[i]]) end
end
-- Writes a job's own fields into `row`, behind the `length` that are there; how many there are then.
local function add_own(row, length, i)
  for at = begins[i], ends[i] do
    length = length + 1
    row[length] = ARGV[at]
  end
  return length
end
-- One job, not written yet: its hash as HSET takes it, and the fields that decisions need.
local function new_job(i)
  local row, its = { unpack(common) }, fields
  row[1] = K.job(x_id .. '-' .. names[i])
  if upstreams_of[i] ~= '' then
    row[#row + 1], row[#row + 2] = 'upstreams', upstreams_of[i]
  end
  add_own(row, #row, i)
  local is_special = special
  for at = begins[i], ends[i], 2 do
    if SELDOM[ARGV[at]] and not is_special then
      is_special, row[#row + 1], row[#row + 2] = true, 'special', '1'
    end
    if DECIDING[ARGV[at]] then
      if its == fields then its = setmetatable({}, is_common) end
      its[ARGV[at]] = ARGV[at + 1]
    end
  end
  return J.new(x_id, names[i], row, its)
end
-- Jobs of a chunk that are alike, and wait for nothing, not even at a gate, need no decisions of their own.
local like = alike and count > 0 and new_job(1)
local group = like and like.group and G.group(x_id, like.group)
alike = like and like.kind == 'run' and x.parallelism == 0 and not (group and group.limit > 0)
  and N.could_any(like.class, like.needs)
-- As Q.enqueue, for all of them; one table serves for what is written of each.
local function enqueue_alike()
  local list, row, common_to = { 'RPUSH', K.queue(like.origin) }, { unpack(common) }, #common
  row[3] = 'queued'
  for i = 1, count do
    row[1] = K.job(x_id .. '-' .. names[i])
    row[5] = stamp() -- its `created_at`
    redis.call('HSET', unpack(row, 1, add_own(row, common_to, i)))
    list[i + 2] = x_id .. '-' .. names[i]
    Q.fresh[i] = like
  end
  job_events('job_queued', x_id, names)
  Q.fresh[like.id] = true
  redis.call(unpack(list))
  list_queue(like)
end

local made, waiting = {}, {} -- made: in order, and by name
for i, name in ipairs(alike and {} or names) do
  local job = new_job(i)
  made[i], made[name] = job, job
  if upstreams_of[i] ~= '' then waiting[#waiting + 1] = { job = job, upstreams = upstreams_of[i] } end
end
-- Adds names to those that a job tells of its end.
local function also_tells(name, more)
  local id, job = x_id .. '-' .. name, made[name]
  local v = job and { job.status, job.dependents } or redis.call('HMGET', K.job(id), 'status', 'dependents')
  if not v[1] then return end
  local all = v[2] and v[2] ~= '' and v[2] .. more or string.sub(more, 2)
  if not job then return redis.call('HSET', K.job(id), 'dependents', all) end
  job.dependents = all
  J.write(job, 'dependents', all)
end
if #waiting > 0 and redis.call('HGET', K.execution(x_id), 'session') then
  local dependents = {}
  for _, one in ipairs(waiting) do
    for upstream, any_end in string.gmatch(one.upstreams, '([^ ?]+)(%??)') do
      dependents[upstream] = (dependents[upstream] or '') .. ' ' .. one.job.job .. any_end
    end
  end
  for upstream, more in pairs(dependents) do also_tells(upstream, more) end
end
local seen = {}
for _, one in ipairs(waiting) do -- others of this chunk may be among its upstreams
  local job = one.job
  job.waits, job.failed = F.upstreams(x_id, job.job, one.upstreams, false, seen)
  J.write(job, 'waits', job.waits)
end
if stage == ':static' and count > 0 then
  redis.call('RPUSH', K.jobs(x_id), unpack(names))
elseif count > 0 then
  redis.call('HSET', K.pages(x_id), stage .. ':' .. number, table.concat(names, ' '))
  redis.call('RPUSH', K.jobs(x_id), stage .. ':' .. number)
  local live = redis.call('HGET', chunk_key, 'live')
  if live then redis.call('HSET', chunk_key, 'live', live .. number .. ' ') end
end
X.count(x, 'jobs', count)
if stage ~= ':static' then
  redis.call('HINCRBY', K.group(x_id, stage), 'created', count)
elseif last then
  redis.call('HSET', K.execution(x_id), 'compiled', 1)
  redis.call('ZREM', K.agenda(x.domain), 'compile ' .. x_id)
end
if alike then enqueue_alike() end
for _, job in ipairs(made) do
  if job.failed then
    F.skip(job, job.failed)
  elseif job.waits == 0 and job.status == 'deferred' then
    G.ready(job)
  end
  if job.unwritten then J.write(job) end
end
F.run()
X.flush()
return 'OK'
