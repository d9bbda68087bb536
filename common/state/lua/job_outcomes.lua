-- How jobs stand: what a fan-in reads of its fan-out's children.
-- ARGV  execution, names ...
-- FLAGS no-writes
-- RETURNS for each two texts: its status, and its result (JSON), or its error (JSON) where it has not
--         finished; both empty when there is no such job
local out = {}
for i = 2, #ARGV do
  local key = K.job(ARGV[1] .. '-' .. ARGV[i])
  local v = redis.call('HMGET', key, 'status', 'result')
  out[#out + 1] = v[1] or ''
  out[#out + 1] = (v[1] == 'finished' and v[2] or redis.call('HGET', key, 'error')) or ''
end
return out
