-- requires: keys now
-- Goes on with leased work: it comes up again only after another lease.
-- ARGV  domain, item, the lease's mark, lease (ms)
-- RETURNS the new mark; the old one when the item was posted anew or taken by another
local key, mark = K.agenda(ARGV[1]), NOW_MS + tonumber(ARGV[4])
if tonumber(redis.call('ZSCORE', key, ARGV[2]) or 0) ~= tonumber(ARGV[3]) then return ARGV[3] end
redis.call('ZADD', key, mark, ARGV[2])
return tostring(mark)
