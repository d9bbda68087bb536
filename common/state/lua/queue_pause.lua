-- requires: event
-- Pauses or resumes queues by name.
-- ARGV  verb (pause | resume), names ...
-- FLAGS allow-oom
-- RETURNS how many changed
local changed = 0
for i = 2, #ARGV do
  changed = changed + redis.call(ARGV[1] == 'pause' and 'SADD' or 'SREM', K.paused(), ARGV[i])
end
if changed > 0 then event('queues_' .. ARGV[1] .. 'd', 'queues', table.concat(ARGV, ' ', 2)) end
return changed
