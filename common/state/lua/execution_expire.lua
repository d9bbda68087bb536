-- requires: flow
-- Starts the TTL of an ended execution's keys, a chunk of jobs a call; its field `expiring` says where the
-- next one begins in its list of jobs.
-- ARGV  execution, size of the chunk
-- FLAGS allow-oom
-- RETURNS 1 while there is more to do; 0 when all is done, or it is not ended
local x = X.get(ARGV[1])
if not EXECUTION_ENDED[x.status] then return 0 end
local key = K.execution(x.id)
local place = expire(x, redis.call('HGET', key, 'expiring') or '0', tonumber(ARGV[2]))
if place == '' then
  redis.call('HDEL', key, 'expiring')
  return 0
end
redis.call('HSET', key, 'expiring', place)
return 1
