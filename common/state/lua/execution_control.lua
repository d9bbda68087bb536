-- requires: flow
-- Pauses, resumes or cancels an execution.
-- ARGV  execution, verb (pause | resume | cancel)
-- FLAGS allow-oom
-- RETURNS the execution's status after it; GONE when there is none
-- KEEPS  an ended execution stays as it is; after a cancel nothing of it is
--        claimed and no result is recorded. Each verb may be repeated.
local x_id, verb = ARGV[1], ARGV[2]
local x = X.get(x_id)
if not x.status then return 'GONE' end
if EXECUTION_ENDED[x.status] then return x.status end

local function set_status(status, ...)
  x.status = status
  X.touch(x)
  redis.call('HSET', K.execution(x_id), 'status', status, ...)
  event('execution_' .. status, 'execution', x_id)
end
if verb == 'pause' then
  if x.status ~= 'paused' then
    set_status('paused')
    F.tell_nodes('pause', x_id)
  end
elseif verb == 'resume' then
  if x.status == 'paused' then
    local chunks = redis.call('HGET', K.execution(x_id), 'chunks')
    set_status(chunks and 'running' or 'pending')
    F.push('unpark', x_id)
  end
elseif verb == 'cancel' then
  set_status('canceled', 'ended_at', now_iso())
  F.cut_short(x, 'canceled')
end
F.run()
X.flush()
return x.status
