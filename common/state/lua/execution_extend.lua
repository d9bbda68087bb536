-- requires: flow
-- Adds one chunk of jobs to an execution, once; those with nothing to wait for go on.
-- ARGV  execution, stage (':static' or a fan-out's name), number of the chunk (from 0),
--       1 when it is the stage's last, then for each job: its name, the names it
--       waits for (`a b?`: b's outcome does not matter), the count of its fields and
--       the fields themselves
-- RETURNS OK | DONE (this chunk is there already) | AHEAD (an earlier one is missing)
--       | CLOSED (the execution has ended or is gone)
-- KEEPS  each chunk is applied at most once, in order; a job exists before any of
--        its upstreams can tell it of their end, or sees that end here.
local x_id, stage, number, last = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local x = X.get(x_id)
if X.closed(x) then return 'CLOSED' end
local chunk_field = stage == ':static' and 'chunks' or 'created_chunks'
local chunk_key = stage == ':static' and K.execution(x_id) or K.group(x_id, stage)
local expected = tonumber(redis.call('HGET', chunk_key, chunk_field) or 0)
if number < expected then return 'DONE' end
if number > expected then return 'AHEAD' end

redis.call('HSET', chunk_key, chunk_field, number + 1)
if x.status == 'pending' then
  x.status = 'running'
  redis.call('HSET', K.execution(x_id), 'status', 'running')
  event('execution_running', 'execution', x_id)
end
redis.call('HSETNX', K.execution(x_id), 'started_at', NOW_ISO)
local made, at = {}, 5
while at <= #ARGV do
  local name, upstreams, n = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  local id = x_id .. '-' .. name
  local open, failed = F.upstreams(x_id, name, upstreams)
  redis.call('HSET', K.job(id), 'status', 'deferred', 'created_at', NOW_ISO, 'execution', x_id,
    'job', name, 'upstreams', upstreams, 'waits', open,
    unpack(ARGV, at + 3, at + 2 + n))
  redis.call('RPUSH', K.jobs(x_id), name)
  made[#made + 1] = { id, open, failed }
  at = at + 3 + n
end
X.count(x, 'jobs', #made)
if stage ~= ':static' then
  redis.call('HINCRBY', K.group(x_id, stage), 'created', #made)
elseif last then
  redis.call('HSET', K.execution(x_id), 'compiled', 1)
end
for _, one in ipairs(made) do
  local job = J.get(one[1])
  if one[3] then
    F.skip(job, one[3])
  elseif one[2] == 0 then
    G.ready(job)
  end
end
F.run()
X.flush()
return 'OK'
