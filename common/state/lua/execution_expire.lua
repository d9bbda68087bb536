-- requires: flow
-- Starts the TTL of an ended execution's keys, a chunk of jobs a call.
-- ARGV  execution, first job of the chunk (from 0), size of the chunk
-- RETURNS the first job of the next chunk; -1 when all is done, or it is not ended
local x_id, at, size = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local x = X.get(x_id)
if not EXECUTION_ENDED[x.status] then return -1 end
local names = redis.call('LRANGE', K.jobs(x_id), at, at + size - 1)
local expires_s = math.floor(NOW_MS / 1000) + x.ttl_s
for _, name in ipairs(names) do
  local id = x_id .. '-' .. name
  local v = redis.call('HMGET', K.job(id), 'origin', 'kind')
  redis.call('EXPIRE', K.job(id), x.ttl_s)
  redis.call('EXPIRE', K.log(x_id, name), x.ttl_s)
  redis.call('EXPIRE', K.history(x_id, name), x.ttl_s)
  if v[1] then
    redis.call('ZADD', K.finished(v[1]), 'XX', expires_s, id)
    redis.call('ZADD', K.failed(v[1]), 'XX', expires_s, id)
  elseif v[2] == 'fan-out' then
    redis.call('EXPIRE', K.group(x_id, name), x.ttl_s)
    redis.call('EXPIRE', K.group_held(x_id, name), x.ttl_s)
  end
end
if #names == size then return at + size end
local key = redis.call('HGET', K.execution(x_id), 'key')
if key and key ~= '' then redis.call('EXPIRE', K.submission(key), x.ttl_s) end
for _, key in ipairs({ K.execution(x_id), K.spec(x_id), K.jobs(x_id), K.held(x_id), K.parked(x_id),
  K.outbox(x_id) }) do
  redis.call('EXPIRE', key, x.ttl_s)
end
return -1
