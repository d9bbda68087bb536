-- requires: settle
-- A node is known to be gone (it left, or its supervisor saw it die): all its jobs move at once.
-- ARGV  node, incarnation, why
-- RETURNS how many jobs were queued again
-- KEEPS  another incarnation's leases stay; leaving twice changes nothing.
local id, incarnation, why = ARGV[1], ARGV[2], ARGV[3]
local n = N.get(id)
if n.incarnation and n.incarnation ~= incarnation then return 0 end
local moved = 0
local leases = redis.call('HGETALL', K.node_leases(id))
for i = 1, #leases, 2 do
  local attempt, claim = string.match(leases[i + 1], '^(%d+) (%S+)')
  local job = J.get(leases[i])
  if J.holds(job, tonumber(attempt), claim) then
    moved = moved + 1
    S.lost(job, 'losses', CFG.max_losses, CFG.lost_error)
  end
end
redis.call('DEL', K.node(id), K.node_leases(id), K.node_inbox(id))
redis.call('ZREM', K.nodes(), id)
redis.call('ZREM', K.idle(), id)
if n.incarnation then event('node_left', 'node', id, 'why', why, 'jobs', moved) end
F.run()
X.flush()
return moved
