-- requires: now
-- Takes a lock for an owner; the same owner again finds it as it is, with a new TTL.
-- ARGV  name, owner, TTL (ms)
-- RETURNS {OK, fencing number} | {HELD, owner, what is left of its TTL (ms)}
-- KEEPS  one owner at a time; each change of owner has a higher fencing number, also
--        when the last one is forgotten: none is below the time at which it was given.
local key, owner, ttl_ms = K.lock(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local v = redis.call('HMGET', key, 'owner', 'fence')
if v[1] and v[1] ~= owner then return { 'HELD', v[1], redis.call('PTTL', key) } end
local fence = tonumber(v[2])
if not v[1] then
  fence = math.max(NOW_MS, tonumber(redis.call('GET', K.fence(ARGV[1])) or 0) + 1)
  local text = string.format('%.0f', fence)
  redis.call('SET', K.fence(ARGV[1]), text, 'EX', 604800)
  redis.call('HSET', key, 'owner', owner, 'fence', text)
end
redis.call('PEXPIRE', key, ttl_ms)
return { 'OK', fence }
