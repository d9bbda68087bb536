-- requires: repair
-- Finds leases of a node that is not registered, which nobody would ever reap, and ends them.
-- ARGV  look | mend, node
-- FLAGS allow-oom
-- RETURNS how many leases; with `mend`, how many were ended (400 at most a call)
-- KEEPS  a job whose token holds is queued again, as if its node had left.
local id = ARGV[2]
if R.is_node(id) then return 0 end
if ARGV[1] ~= 'mend' then return redis.call('HLEN', K.node_leases(id)) end
local jobs, void = S.leased(id)
for _, lease in ipairs(void) do redis.call('HDEL', K.node_leases(id), lease) end
local moved = 0
for _, job in ipairs(jobs) do
  if F.touched >= STEP_LIMIT then break end
  F.touched = F.touched + 1
  moved = moved + 1
  redis.call('HDEL', K.node_leases(id), job.id)
  R.mended(job.execution, 'lease', 'job', job.job, 'node', id)
  S.lost(job, 'losses', CFG.max_losses, CFG.lost_error)
end
F.run()
X.flush()
return moved + #void
