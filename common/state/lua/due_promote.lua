-- requires: upkeep
-- Queues what has become due, between two upkeeps.
-- FLAGS allow-oom
-- RETURNS the millisecond at which the next job is due, -1 for none, and the server's time
promote()
F.run()
X.flush()
local next_due = redis.call('ZRANGE', K.due(), 0, 0, 'WITHSCORES')
return { next_due[2] or '-1', tostring(NOW_MS) }
