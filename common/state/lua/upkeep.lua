-- requires: upkeep
-- The cluster's upkeep by an orchestrator; beats of nodes do the same.
-- Orchestrators do it every two seconds.
-- FLAGS allow-oom
-- RETURNS the millisecond at which the next job is due or a node's time-out may pass, -1 for
--         neither, and the server's time
upkeep(2500, N.last_upkeep())
X.flush()
local next_due, timeout = redis.call('ZRANGE', K.due(), 0, 0, 'WITHSCORES'), next_timeout()
local look_at = math.min(tonumber(next_due[2]) or math.huge, timeout or math.huge)
return { look_at < math.huge and tostring(look_at) or '-1', tostring(NOW_MS) }
