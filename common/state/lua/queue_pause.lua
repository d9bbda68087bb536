-- requires: queue
-- Pauses or resumes queues by name; idle nodes are woken for what waits in them.
-- ARGV  verb (pause | resume), names ...
-- FLAGS allow-oom
-- RETURNS how many changed
local changed = 0
for i = 2, #ARGV do
  changed = changed + redis.call(ARGV[1] == 'pause' and 'SADD' or 'SREM', K.paused(), ARGV[i])
  local class = ARGV[1] == 'resume' and string.match(ARGV[i], '^(.*)%.p%d+$')
  local waiting = class and redis.call('LLEN', K.queue(ARGV[i])) or 0
  for _ = 1, math.min(waiting, redis.call('ZCARD', K.idle())) do Q.wake(class, '') end
end
if changed > 0 then event('queues_' .. ARGV[1] .. 'd', 'queues', table.concat(ARGV, ' ', 2)) end
return changed
