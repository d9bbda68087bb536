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

redis.call('ZREM', K.agenda(x.domain), 'expire ' .. x_id)
x.status = compiled and 'running' or 'pending'
redis.call('HSET', K.execution(x_id), 'status', x.status, 'retrying', 1)
local key = redis.call('HGET', K.execution(x_id), 'key')
if key and key ~= '' then redis.call('PERSIST', K.submission(key)) end
for _, key in ipairs({ K.execution(x_id), K.spec(x_id), K.jobs(x_id), K.pages(x_id), K.outbox(x_id) }) do
  redis.call('PERSIST', key)
end
event('execution_running', 'execution', x_id)
-- Behind what is left of the end; until then the execution stays closed.
redis.call('RPUSH', K.outbox(x_id), 'reset ' .. x_id .. ' 0')
redis.call('SADD', K.outboxes(), x_id)
X.touch(x)
F.drain()
X.flush()
return 'RUNNING'
