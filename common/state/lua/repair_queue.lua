-- requires: repair
-- Finds a queue that no claim looks at though it holds jobs, and entries of started jobs
-- that are none; puts both right.
-- ARGV  look | mend, queue, then members of its `rq:wip` (100 at most)
-- FLAGS allow-oom
-- RETURNS {1 when no claim looks at it, the members that are no started jobs ...}
-- KEEPS  lists of other users of RQ are left alone.
local mend, name = ARGV[1] == 'mend', ARGV[2]
local head = redis.call('LINDEX', K.queue(name), 0)
local job = head and J.get(head)
local unseen = job and job.execution and not redis.call('ZSCORE', K.ready(), name)
if unseen and mend then
  redis.call('ZADD', K.ready(), string.match(name, '(%d+)$'), name)
  R.mended('', 'queue', 'queue', name)
end
local out = { unseen and 1 or 0 }
for i = 3, #ARGV do
  local id, claim = string.match(ARGV[i], '^([^:]*):(.*)$')
  local one = id and J.get(id)
  if not (one and one.status == 'started' and one.claim == claim)
    and redis.call('ZSCORE', K.wip(name), ARGV[i]) then
    out[#out + 1] = ARGV[i]
    if mend then
      redis.call('ZREM', K.wip(name), ARGV[i])
      R.mended(one and one.execution or '', 'wip', 'entry', ARGV[i])
    end
  end
end
return out
