-- requires: settle
-- A node is known to be gone (it left, or its supervisor saw it die): all its jobs move at once.
-- ARGV  node, incarnation, why
-- RETURNS how many jobs were queued again
-- KEEPS  another incarnation's leases stay; leaving twice changes nothing.
local id, incarnation, why = ARGV[1], ARGV[2], ARGV[3]
local n = N.get(id)
if n.incarnation and n.incarnation ~= incarnation then return 0 end
local jobs = S.leased(id)
for _, job in ipairs(jobs) do S.lost(job, 'losses', CFG.max_losses, CFG.lost_error) end
redis.call('DEL', K.node(id), K.node_leases(id), K.node_inbox(id))
redis.call('ZREM', K.nodes(), id)
redis.call('ZREM', K.idle(), id)
if n.incarnation then event('node_left', 'node', id, 'why', why, 'jobs', #jobs) end
F.run()
X.flush()
return #jobs
