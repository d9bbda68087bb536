-- requires: settle
-- A node is known to be gone (it left, or its supervisor saw it die): all its jobs move at once.
-- ARGV  node, incarnation, why
-- FLAGS allow-oom
-- RETURNS how many jobs were queued again
-- KEEPS  another incarnation's leases stay, also when the node itself is forgotten;
--        leaving twice changes nothing.
local id, incarnation, why = ARGV[1], ARGV[2], ARGV[3]
local n = N.get(id)
if n.incarnation and n.incarnation ~= incarnation then return 0 end
local jobs, void = S.leased(id)
local moved = 0
for _, job in ipairs(jobs) do
  if N.turn(incarnation, job.claim) then
    S.lost(job, 'losses', CFG.max_losses, CFG.lost_error)
    moved = moved + 1
  end
end
for _, lease in ipairs(void) do redis.call('HDEL', K.node_leases(id), lease) end
if moved == #jobs then
  redis.call('DEL', K.node(id), K.node_leases(id), K.node_inbox(id))
  redis.call('ZREM', K.nodes(), id)
  redis.call('ZREM', K.idle(), id)
end
if n.incarnation then event('node_left', 'node', id, 'why', why, 'jobs', moved) end
F.run()
X.flush()
return moved
