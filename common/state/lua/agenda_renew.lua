-- requires: agenda
-- Goes on with leased work: it comes up again only after another lease.
-- ARGV  the domains that the orchestrator serves (`gpu rag`, or `*`), the lease's mark,
--       lease (ms), domain, item, domain, item ...
-- FLAGS allow-oom
-- RETURNS {the new mark, the place (from 0) of each item that was posted anew or taken by another}
local old, mark = tonumber(ARGV[2]), lease_mark(tonumber(ARGV[3]))
visit(ARGV[1])
local out = { mark }
for i = 4, #ARGV, 2 do
  local key, item = K.agenda(ARGV[i]), ARGV[i + 1]
  if tonumber(redis.call('ZSCORE', key, item) or 0) == old then
    redis.call('ZADD', key, mark, item)
  else
    out[#out + 1] = (i - 4) / 2
  end
end
return out
