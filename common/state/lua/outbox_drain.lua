-- requires: settle
-- Does what other scripts left over, up to 200 jobs a call.
-- FLAGS allow-oom
-- RETURNS how many executions have more to do
F.drain()
X.flush()
return redis.call('SCARD', K.outboxes())
