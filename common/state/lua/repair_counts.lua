-- requires: repair
-- Sets counts of an execution, or of a fan-out of it, to what its jobs say.
-- ARGV  execution, fan-out ('' for none), the last event before its jobs were read, then
--       pairs: field and value
-- FLAGS allow-oom
-- RETURNS OK | MOVED (the execution went on meanwhile: count again)
-- KEEPS  nothing is written when any job may have moved since it was counted.
local x_id, name = ARGV[1], ARGV[2]
if not X.get(x_id).status then return 'MOVED' end
local since = redis.call('XRANGE', K.events(), ARGV[3], '+', 'COUNT', 500)
if #since == 500 or not R.outbox_empty(x_id) then return 'MOVED' end
for _, entry in ipairs(since) do
  local fields = entry[2]
  for i = 1, entry[1] ~= ARGV[3] and #fields or 0, 2 do
    if fields[i] == 'execution' and fields[i + 1] == x_id then return 'MOVED' end
  end
end
redis.call('HSET', name == '' and K.execution(x_id) or K.group(x_id, name), unpack(ARGV, 4))
local job = name ~= '' and J.get(x_id .. '-' .. name)
if job and job.status == 'started' then F.push('group', x_id, name) end
R.mended(x_id, 'counts', 'job', name)
X.touch(X.get(x_id))
F.run()
X.flush()
return 'OK'
