-- requires: now iso event agenda later expiry
-- Executions touched by this script: read once, counted in memory, written and
-- checked for their end once, by X.flush() as the script's last step.
local X = {} -- X.wake is in queue.lua
each_call(function() X.cache = {} end)
local EXPIRED_AT_ONCE = 32 -- jobs whose TTL begins in the script that ends their execution
local EXECUTION_ENDED = { succeeded = true, failed = true, canceled = true }
function X.get(id)
  local x = X.cache[id]
  if x then return x end
  local v = redis.call('HMGET', K.execution(id), 'status', 'closing', 'parallelism', 'policy', 'root',
    'digest', 'ttl_s', 'admitted', 'domain')
  x = { id = id, status = v[1] or nil, closing = v[2] or nil, parallelism = tonumber(v[3] or 0),
    policy = v[4] or nil, root = v[5] or '', digest = v[6] or '', ttl_s = tonumber(v[7] or 604800),
    admitted = tonumber(v[8] or 0), domain = v[9] or 'default', deltas = {}, changed = false }
  X.cache[id] = x
  return x
end
-- Closed: canceled, or failing fast; nothing of it may start any more.
function X.closed(x) return x.closing or x.status == nil or EXECUTION_ENDED[x.status] end
function X.count(x, field, by)
  x.deltas[field] = (x.deltas[field] or 0) + by
  x.changed, x.goes_on = true, field == 'running' and by > 0 -- what was claimed last has not ended yet
end
function X.touch(x) x.changed = true end
local function try_end(x)
  local v = redis.call('HMGET', K.execution(x.id), 'jobs', 'finished', 'failed', 'canceled', 'stopped',
    'compiled', 'faults', 'status', 'retrying')
  local open = tonumber(v[1] or 0)
  for i = 2, 5 do open = open - tonumber(v[i] or 0) end
  local cut_short = x.status == 'canceled' or x.closing
  if open > 0 or v[9] or not (v[6] == '1' or cut_short) then return end
  if not EXECUTION_ENDED[v[8]] then
    x.status = tonumber(v[7] or 0) > 0 and 'failed' or 'succeeded'
    redis.call('HSET', K.execution(x.id), 'status', x.status, 'ended_at', now_iso())
    event('execution_ended', 'execution', x.id, 'status', x.status)
  end
  if tonumber(v[1] or 0) > EXPIRED_AT_ONCE then return post_agenda(x.domain, 'expire ' .. x.id) end
  expire(x, '0', 2 * EXPIRED_AT_ONCE + 1) -- each may be a chunk of its own
end
function X.flush()
  write_later()
  X.wake()
  for id, x in pairs(X.cache) do
    if x.changed and x.status == nil then -- it is gone, and counting would leave a part of it behind
      x.deltas, x.changed = {}, false
    elseif x.changed then
      for field, by in pairs(x.deltas) do
        if by ~= 0 then redis.call('HINCRBY', K.execution(id), field, by) end
      end
      x.deltas = {}
      x.changed = false
      if not x.goes_on then try_end(x) end
      redis.call('PUBLISH', K.channel(id), x.status)
      if EXECUTION_ENDED[x.status] then redis.call('PUBLISH', K.ended_channel(id), x.status) end
    end
  end
end
