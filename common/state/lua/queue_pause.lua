-- requires: queue
-- Pauses queues by name, or resumes them: idle nodes are woken for what waits in them.
-- ARGV  verb (pause | resume), names ... (resume without any: whatever is paused, and `rq suspend` undone)
-- FLAGS allow-oom
-- RETURNS how many changed
local verb, names, changed = ARGV[1], { unpack(ARGV, 2) }, 0
for _, name in ipairs(names) do
  changed = changed + redis.call(verb == 'pause' and 'SADD' or 'SREM', K.paused(), name)
end
if #names == 0 then
  changed = redis.call('SCARD', K.paused()) + redis.call('DEL', K.suspended())
  redis.call('DEL', K.paused())
  names = redis.call('ZRANGE', K.ready(), 0, -1)
end
for _, name in ipairs(verb == 'resume' and names or {}) do
  local class, waiting = string.match(name, '^(.*)%.p%d+$'), redis.call('LLEN', K.queue(name))
  for _ = 1, math.min(waiting, redis.call('ZCARD', K.idle())) do Q.wake(class or 'any', '') end
end
if changed > 0 then event('queues_' .. verb .. 'd', 'queues', table.concat(ARGV, ' ', 2)) end
return changed
