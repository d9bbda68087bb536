-- requires: settle upkeep
-- A node's heartbeat: renews it, tells which of its tokens no longer hold, recomputes
-- what its leases take, and does the cluster's upkeep when it is time.
-- ARGV  node, incarnation, state (idle | busy | suspended | draining), then for each job
--       held: id, attempt, claim
-- RETURNS {OK | UNKNOWN, 1 when something is ready, places (0, 3, 6 ...) of the stale ones}
-- KEEPS  a lease lasts only while its daemon holds it: one that it does not name is
--        dropped, and its job queued again if its token still held. The leases of the
--        last claim are spared: its reply may still be on its way.
local id, incarnation, state = ARGV[1], ARGV[2], ARGV[3]
local n = N.get(id)
local known = n.incarnation == incarnation
local held, stale = {}, {}
for at = 4, #ARGV, 3 do
  held[ARGV[at]] = ARGV[at + 2]
  if not J.holds(J.get(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]) then
    stale[#stale + 1] = at - 4
  end
end
if not known then return { 'UNKNOWN', 0, stale } end

redis.call('PEXPIRE', K.node(id), 2 * n.timeout_ms)
redis.call('ZADD', K.nodes(), NOW_MS, id)
do
  local used, leases = {}, redis.call('HGETALL', K.node_leases(id))
  for i = 1, #leases, 2 do
    local attempt, claim, needs = string.match(leases[i + 1], '^(%d+) (%S+) %d+ ?(.*)$')
    if held[leases[i]] == claim or claim == n.claim then
      A.add(used, A.parse(needs), 1)
    else
      redis.call('HDEL', K.node_leases(id), leases[i])
      local job = J.get(leases[i])
      if J.holds(job, tonumber(attempt), claim) then S.not_held(job) end
    end
  end
  if next(used) or next(n.used) then
    n.used = used
    N.save_used(n)
  end
end
if state ~= n.state then
  redis.call('HSET', K.node(id), 'state', state)
  if redis.call('EXISTS', K.rq_worker(id)) == 1 then
    redis.call('HSET', K.rq_worker(id), 'state', state == 'draining' and 'busy' or state)
  end
end
F.run()
-- Shorter than a time-out by the time between two beats, so that whoever was silent for
-- a time-out has been so while the upkeep went on.
local lists = upkeep(math.max(1500, n.timeout_ms * 2 / 3))
X.flush()
return { 'OK', lists > 0 and 1 or 0, stale }
