-- Gives a held lock another TTL.
-- ARGV  name, owner, TTL (ms)
-- FLAGS allow-oom
-- RETURNS OK | LOST (it ended, or is another's)
-- KEEPS  a lock that was lost is never taken again by renewing it.
local key = K.lock(ARGV[1])
if redis.call('HGET', key, 'owner') ~= ARGV[2] then return 'LOST' end
redis.call('PEXPIRE', key, tonumber(ARGV[3]))
return 'OK'
