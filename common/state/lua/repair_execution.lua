-- requires: repair
-- Finds what keeps an execution from going on or from ending, and helps it on.
-- ARGV  look | mend, execution
-- FLAGS allow-oom
-- RETURNS all that is wrong with it, as texts
-- KEEPS  as repair_jobs.
local mend, x_id = ARGV[1] == 'mend', ARGV[2]
local x = X.get(x_id)
if not x.status then return {} end
local v = redis.call('HMGET', K.execution(x_id), 'compiled', 'retrying', 'jobs', 'finished', 'failed',
  'canceled', 'stopped')
local compiled, retrying, open = v[1] == '1', v[2], tonumber(v[3] or 0)
for i = 4, 7 do open = open - tonumber(v[i] or 0) end
local ended, idle = EXECUTION_ENDED[x.status], R.outbox_empty(x_id)

local out = {}
local function wrong(what, help)
  out[#out + 1] = what
  if not mend then return end
  R.mended(x_id, what)
  help()
end
if not idle and redis.call('SISMEMBER', K.outboxes(), x_id) == 0 then
  wrong('nobody knows of its outbox', function() redis.call('SADD', K.outboxes(), x_id) end)
elseif idle and retrying then
  wrong('its retry stands still', function() F.push('reset', x_id, '0') end)
elseif idle and X.closed(x) and open > 0 then
  if redis.call('TTL', K.execution(x_id)) == -1 then
    wrong('it is closed, but jobs of it have not ended', function()
      F.push('cancel', x_id, '0', x.closing or 'canceled')
    end)
  end
elseif idle and ended then
  local waits = redis.call('TTL', K.execution(x_id)) == -1
  if waits and not R.on_agenda(x, 'expire ' .. x_id) then
    wrong('it has ended, but will never expire', function() post_agenda(x.domain, 'expire ' .. x_id) end)
  end
elseif not X.closed(x) and not compiled and not retrying then
  if not R.on_agenda(x, 'compile ' .. x_id) then
    wrong('no orchestrator is asked to compile it', function()
      post_agenda(x.domain, 'compile ' .. x_id)
    end)
  end
elseif not ended and open <= 0 and not retrying then
  wrong('all its jobs have ended, but it has not', function() X.touch(x) end)
end
if mend then
  F.run()
  X.flush()
end
return out
