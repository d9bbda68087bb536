-- requires: flow
-- Runs again what did not succeed in an execution that failed or was canceled.
-- ARGV  execution
-- RETURNS RUNNING | GONE | OPEN (it has not ended) | SUCCEEDED (nothing to do)
-- KEEPS  finished jobs keep their results and do not run again.
local x_id = ARGV[1]
local x = X.get(x_id)
if not x.status then return 'GONE' end
if x.status == 'succeeded' then return 'SUCCEEDED' end
if not EXECUTION_ENDED[x.status] then return 'OPEN' end
local compiled = redis.call('HGET', K.execution(x_id), 'compiled') == '1'

redis.call('ZREM', K.agenda('default'), 'expire ' .. x_id)
redis.call('HSET', K.execution(x_id), 'status', compiled and 'running' or 'pending', 'retrying', 1)
redis.call('HDEL', K.execution(x_id), 'closing', 'ended_at', 'admitted')
for _, key in ipairs({ K.execution(x_id), K.spec(x_id), K.jobs(x_id) }) do
  redis.call('PERSIST', key)
end
x.closing, x.status, x.admitted = nil, compiled and 'running' or 'pending', 0
event('execution_running', 'execution', x_id)
F.push('reset', x_id, 0)
if not compiled then post_agenda('compile ' .. x_id) end
X.touch(x)
F.run()
X.flush()
return 'RUNNING'
