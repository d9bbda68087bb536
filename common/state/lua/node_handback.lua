-- requires: settle
-- Gives jobs that were claimed but not begun back to the heads of their lists.
-- ARGV  node, incarnation, then for each job: id, attempt, claim
-- FLAGS allow-oom
-- RETURNS for each OK | STALE
-- KEEPS  the attempt is given back with the job; handing back twice is STALE.
local n = N.get(ARGV[1])
local verdicts = {}
for at = #ARGV - 2, 3, -3 do
  local job, attempt, claim = J.get(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  N.drop_lease(n, ARGV[at], attempt, claim)
  local holds = J.holds(job, attempt, claim)
  if holds then S.requeue(job, 'handed back', 'attempt', attempt - 1) end
  table.insert(verdicts, 1, holds and 'OK' or 'STALE')
end
if n.incarnation then N.save_used(n) end
F.run()
X.flush()
return verdicts
