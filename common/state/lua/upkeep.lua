-- requires: upkeep
-- The cluster's upkeep by an orchestrator; beats of nodes do the same.
-- Orchestrators do it every two seconds.
-- RETURNS the millisecond at which the next job is due, -1 for none, and the server's time
upkeep(2500)
X.flush()
local next_due = redis.call('ZRANGE', K.due(), 0, 0, 'WITHSCORES')
return { next_due[2] or '-1', tostring(NOW_MS) }
