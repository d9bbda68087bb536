-- requires: keys
-- Takes a lock, or renews it for its owner.
-- ARGV  name, owner, TTL (ms)
-- RETURNS {OK, fencing number} | {HELD, owner}
-- KEEPS  one owner at a time; each change of owner has a higher fencing number.
local key, owner, ttl_ms = K.lock(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local v = redis.call('HMGET', key, 'owner', 'fence')
if v[1] and v[1] ~= owner then return { 'HELD', v[1] } end
local fence = v[2]
if not v[1] then
  fence = redis.call('INCR', K.fence(ARGV[1]))
  redis.call('EXPIRE', K.fence(ARGV[1]), 604800)
  redis.call('HSET', key, 'owner', owner, 'fence', fence)
end
redis.call('PEXPIRE', key, ttl_ms)
return { 'OK', tonumber(fence) }
