-- requires: settle claim
-- Settles what a node's slots finished and claims what they can run next.
-- ARGV  node, incarnation, claim id, lanes (free slots), free (`cpus=1 ram=...`, as the
--       daemon knows it), draining (0|1), count of settlements and seven values for
--       each (job, attempt, claim, outcome, result, took_ms, how many more of it follow: none, or
--       error, metrics, retry_ms, log), then pairs: `<root>|<digest>|<function>` and how many riders of it
-- RETURNS {OK | UNKNOWN | SUSPENDED, the verdicts (`OK STALE ...`), runs of jobs (see hand_out), their works}
-- KEEPS  a settlement counts only under its token; the same claim id again returns
--        the same verdicts and the jobs whose tokens still hold, and changes nothing;
--        an earlier one that arrives late claims nothing.
local id, incarnation, claim_id, lanes = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local free_there, draining, settled = A.read(ARGV[5]), ARGV[6] == '1', tonumber(ARGV[7])
local n = N.get(id)
local known = n.incarnation == incarnation

local function hand_out_last_claim()
  local leases = redis.call('HGETALL', K.node_leases(id))
  for i = 1, #leases, 2 do
    local attempt, claim, rest = string.match(leases[i + 1], '^(%d+) (%S+) %d+ ?(.*)$')
    local job = claim == claim_id and J.held(leases[i])
    if J.holds(job, tonumber(attempt), claim) then
      C.again(job.id, job.origin, claim, rest == '')
    end
  end
end
if known and n.claim == claim_id then
  hand_out_last_claim()
  return { 'OK', n.verdicts, C.runs, C.works }
end

local function turn(claim) return tonumber(string.match(claim or '', '(%d+)$') or 0) end
local late = known and turn(claim_id) < turn(n.claim)

local verdicts, ids, places, at = {}, {}, {}, 8
for i = 1, settled do
  ids[i], places[i] = ARGV[at], at
  at = at + 7 + tonumber(ARGV[at + 6])
end
if settled > 0 then N.read_leases(n, ids) end
Q.claims = lanes > 0 and not draining and not late
local i, alike = 1, settled > 1
while i <= settled do
  if alike then
    local many = S.settle_alike(ARGV, n, ids, places, i)
    for told = i, i + many - 1 do verdicts[told] = 'OK' end
    i, alike = i + many, many > 1 -- reading them twice would cost
    if i > settled then break end
  end
  local from = places[i]
  local outcome, error, metrics, retry_ms, log = ARGV[from + 3], nil, nil, nil, nil
  if ARGV[from + 6] ~= '0' then
    error, metrics, retry_ms, log = ARGV[from + 7], ARGV[from + 8], tonumber(ARGV[from + 9]), ARGV[from + 10]
  end
  verdicts[i] = S.settle(n, ids[i], tonumber(ARGV[from + 1]), ARGV[from + 2], outcome, ARGV[from + 4],
    tonumber(ARGV[from + 5]), error, metrics, retry_ms, log)
  i = i + 1
end
F.run()

-- One that was forgotten while it waited for the reply still holds what it claimed.
if not known then hand_out_last_claim() end
local status = known and 'OK' or 'UNKNOWN'
-- Nothing is in any list, or keeps jobs there.
local nothing_waits = redis.call('EXISTS', K.suspended(), K.ready(), K.paused()) == 0
if known and not nothing_waits and redis.call('EXISTS', K.suspended()) == 1 then status = 'SUSPENDED' end
if status == 'OK' and not draining and not late then
  local free, ahead = N.free(n), {}
  for name, amount in pairs(free) do free[name] = math.min(amount, free_there[name] or amount) end
  for i = at, #ARGV, 2 do ahead[ARGV[i]] = tonumber(ARGV[i + 1]) end
  local idle = redis.call('ZRANGE', K.idle(), 0, 1)
  local other_idle = idle[2] or idle[1] and idle[1] ~= id
  if not nothing_waits or heir and not C.claim_heir(n, claim_id, free) then
    C.claim(n, claim_id, lanes, free, ahead, other_idle)
  end
  if C.looked >= STEP_LIMIT then Q.wake_again(id) end
  if C.heads < lanes then
    redis.call('ZADD', K.idle(), TEXT[(n.used.slots or 0) / math.max(n.total.slots or 1, 1)], id)
  elseif idle[1] then
    redis.call('ZREM', K.idle(), id)
  end
elseif known and not late then
  redis.call('ZREM', K.idle(), id)
end
local told = table.concat(verdicts, ' ')
if known and not late then
  redis.call('HSET', K.node(id), 'claim', claim_id, 'verdicts', told, 'used', A.format(n.used))
end
F.run()
F.drain()
X.flush()
return { status, told, C.runs, C.works }
