-- requires: settle upkeep
-- A node's heartbeat: renews it, tells which of its attempts are to end, recomputes
-- what its leases take, and does the cluster's upkeep when it is time.
-- ARGV  node, incarnation, state (idle | busy | suspended | draining), the number of the
--       last claim whose reply the daemon knew ('': of all but the last), then for each job
--       held: id, attempt, claim
-- FLAGS allow-oom
-- RETURNS {OK | DRAIN (it was told to end) | UNKNOWN, 1 when something is ready, places (0, 3, 6 ...) of the stale ones}
-- KEEPS  a lease lasts only while its daemon holds it: one that it does not name is
--        dropped, and its job queued again if its token still held. Leases of later
--        claims are spared: their replies were on their way, or this beat is late.
local id, incarnation, state = ARGV[1], ARGV[2], ARGV[3]
local n = N.get(id)
local known = n.incarnation == incarnation
local answered, held, stale, jobs = tonumber(ARGV[4]), {}, {}, {}
for at = 5, #ARGV, 3 do
  held[ARGV[at]] = ARGV[at + 2]
  local job = J.held(ARGV[at])
  if not J.holds(job, tonumber(ARGV[at + 1]), ARGV[at + 2]) or X.closed(X.get(job.execution)) then
    stale[#stale + 1] = at - 5
  else
    jobs[job.id] = job
  end
end
if not known then return { 'UNKNOWN', 0, stale } end
local function is_news(claim)
  if not answered then return claim == n.claim end
  return (N.turn(incarnation, claim) or 0) > answered
end

redis.call('PEXPIRE', K.node(id), 2 * n.timeout_ms)
N.heard(id)
local used, dropped = {}, {}
do
  local leases = redis.call('HGETALL', K.node_leases(id))
  for i = 1, #leases, 2 do
    local attempt, claim, since, needs = string.match(leases[i + 1], '^(%d+) (%S+) (%d+) ?(.*)$')
    if held[leases[i]] == claim or is_news(claim) then
      A.add(used, A.parse(needs), 1)
      if needs == '' and jobs[leases[i]] then S.show_rider(jobs[leases[i]], tonumber(since)) end
    else
      dropped[#dropped + 1] = { id = leases[i], attempt = tonumber(attempt), claim = claim, since = tonumber(since) }
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
local function answer(lists) return { n.drain and 'DRAIN' or 'OK', lists > 0 and 1 or 0, stale } end
local last = N.last_upkeep()
if #dropped == 0 and not last.due then return answer(redis.call('ZCARD', K.ready())) end

for _, lease in ipairs(dropped) do
  redis.call('HDEL', K.node_leases(id), lease.id)
  local job = J.get(lease.id)
  if J.holds(job, lease.attempt, lease.claim) then
    job.since = lease.since
    S.not_held(job)
  end
end
F.run()
-- Shorter than a time-out by the time between two beats, so that whoever was silent for
-- a time-out has been so while the upkeep went on.
local lists = upkeep(math.max(1500, n.timeout_ms * 2 / 3), last)
X.flush()
return answer(lists)
