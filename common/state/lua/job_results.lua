-- Results of finished jobs, for those that name them.
-- ARGV  execution, names ...
-- FLAGS no-writes
-- RETURNS for each its JSON text, or nil when it is not finished
local out = {}
for i = 2, #ARGV do
  local v = redis.call('HMGET', K.job(ARGV[1] .. '-' .. ARGV[i]), 'status', 'result', 'on_failure')
  out[i - 1] = v[1] == 'finished' and v[2]
    or v[1] == 'failed' and v[3] == 'continue' and 'null' or false
end
return out
