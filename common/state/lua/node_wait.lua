-- requires: settle
-- A job waits for others inside its run: its slot and cpus are given back, or taken again.
-- ARGV  node, job, attempt, claim, 1 when it begins to wait, 0 when it goes on
-- RETURNS OK | STALE
-- KEEPS  gpus and memory stay taken; doing it twice changes nothing more.
local n, id, attempt, claim = N.get(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local job = J.get(id)
if not J.holds(job, attempt, claim) then return 'STALE' end
local lease = redis.call('HGET', K.node_leases(n.id), id)
local head, text = string.match(lease or '', '^(%d+ %S+ %d+) ?(.*)$')
if not head then return 'STALE' end
if text == '' then S.show_rider(job, tonumber(string.match(head, '%d+$')), true) end -- its lease says no more what it is
local charge = A.parse(text)
if ARGV[5] == '1' then
  charge.cpus, charge.slots = nil, nil
else
  local full = N.charge(n, job.needs)
  charge.cpus, charge.slots = full.cpus, full.slots
end
if A.format(charge) == text then return 'OK' end
A.add(n.used, A.parse(text), -1)
A.add(n.used, charge, 1)
redis.call('HSET', K.node_leases(n.id), id, head .. ' ' .. A.format(charge))
if n.incarnation then N.save_used(n) end
event(ARGV[5] == '1' and 'job_waits' or 'job_goes_on', 'execution', job.execution, 'job', job.job)
return 'OK'
