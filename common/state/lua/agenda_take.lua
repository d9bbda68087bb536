-- requires: keys now
-- Leases work to an orchestrator: it comes up again unless it is reported done.
-- ARGV  domain, lease (ms), at most
-- RETURNS {the lease's mark, item, item ...}
local key, mark = K.agenda(ARGV[1]), NOW_MS + tonumber(ARGV[2])
local items = redis.call('ZRANGEBYSCORE', key, '-inf', NOW_MS, 'LIMIT', 0, tonumber(ARGV[3]))
for _, item in ipairs(items) do redis.call('ZADD', key, mark, item) end
table.insert(items, 1, tostring(mark))
return items
