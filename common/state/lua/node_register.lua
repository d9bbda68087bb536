-- requires: settle
-- Registers a node, or the same one anew. Leases of another incarnation move at once.
-- ARGV  node, incarnation, hostname, capabilities, resources (slots among them), share of
--       a cpu that a job takes which names none, time-out (ms), then pairs of fields
-- FLAGS allow-oom
-- RETURNS OK | TAKEN (a live node of this name runs on another host)
-- KEEPS  one incarnation a node; its own leases and messages survive registering again.
local id, incarnation, hostname = ARGV[1], ARGV[2], ARGV[3]
local n = N.get(id)
local beat = tonumber(redis.call('ZSCORE', K.nodes(), id) or 0)
local other = n.incarnation and n.incarnation ~= incarnation
if other and n.hostname ~= hostname and NOW_MS - beat <= n.timeout_ms then return 'TAKEN' end

local jobs, void = S.leased(id)
for _, lease in ipairs(void) do redis.call('HDEL', K.node_leases(id), lease) end
if n.incarnation ~= incarnation then
  redis.call('DEL', K.node_inbox(id))
  redis.call('HDEL', K.node(id), 'drain')
end
redis.call('HSET', K.node(id), 'id', id, 'incarnation', incarnation, 'hostname', hostname,
  'capabilities', ARGV[4], 'resources', ARGV[5], 'share', ARGV[6], 'timeout_ms', ARGV[7],
  'registered_at', now_iso(), 'state', 'idle', unpack(ARGV, 8))
if #jobs == 0 or other then redis.call('HDEL', K.node(id), 'claim', 'verdicts') end
redis.call('HDEL', K.node(id), 'reserved')
redis.call('HSET', K.maintenance(), 'timeout_ms', ARGV[7]) -- of nodes that were forgotten
redis.call('PEXPIRE', K.node(id), 2 * tonumber(ARGV[7]))
N.heard(id)
N.see_anew(id) -- what it held may be what only it can run
for _, job in ipairs(jobs) do
  if not N.turn(incarnation, job.claim) then
    S.lost(job, 'losses', CFG.max_losses, CFG.lost_error)
  end
end
N.recount(N.get(id))
if n.incarnation ~= incarnation then
  event('node_registered', 'node', id, 'incarnation', incarnation, 'capabilities', ARGV[4])
end
F.run()
X.flush()
return 'OK'
