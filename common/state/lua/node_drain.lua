-- Tells a node to finish what it runs and to take no more: at once by a message, and by
-- its next beat, should the message be lost.
-- ARGV  node
-- FLAGS allow-oom
-- RETURNS OK | GONE (it is not registered)
local id = ARGV[1]
if redis.call('EXISTS', K.node(id)) == 0 then return 'GONE' end
if redis.call('HSETNX', K.node(id), 'drain', 1) == 1 then
  redis.call('LPUSH', K.node_inbox(id), 'drain')
  redis.call('EXPIRE', K.node_inbox(id), 60)
end
return 'OK'
