-- Gives a lock back, and tells those who wait for it.
-- ARGV  name, owner
-- FLAGS allow-oom
-- RETURNS OK | HELD (by another) | FREE (nobody held it)
local owner = redis.call('HGET', K.lock(ARGV[1]), 'owner')
if not owner then return 'FREE' end
if owner ~= ARGV[2] then return 'HELD' end
redis.call('DEL', K.lock(ARGV[1]))
redis.call('PUBLISH', K.lock_channel(ARGV[1]), 'free')
return 'OK'
