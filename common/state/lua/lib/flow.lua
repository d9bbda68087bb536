-- requires: finish steps
-- Runs the steps. A script leaves those beyond STEP_LIMIT, in order, in the execution's
-- outbox for the next one.
local STEPS = { fan = step_fan, group = group_check, pass = step_pass, cancel = step_cancel, stop = step_stop,
  unpark = step_unpark, reset = step_reset, rewait = step_rewait, reopen = step_reopen }

local function leave(rests, first)
  if #rests > 0 and not first then ring_bell('') end -- orchestrators go on with it at once
  for i = 1, #rests do
    local rest = rests[first and #rests + 1 - i or i]
    redis.call(first and 'LPUSH' or 'RPUSH', K.outbox(rest[2]), table.concat(rest, ' '))
    redis.call('SADD', K.outboxes(), rest[2])
    if rest[1] == 'fan' then
      redis.call('HSET', K.job(rest[2] .. '-' .. rest[3]), 'fan_at', rest[4])
    end
  end
end

-- Runs the steps; what is over, or comes back half done, goes to the outbox: behind
-- what is there, or before it when it came from there.
function F.run(from_outbox)
  write_later()
  local rests = {}
  while F.head <= #F.steps do
    local step = F.steps[F.head]
    F.head = F.head + 1
    local rest = step
    if F.touched < STEP_LIMIT then
      F.touched = F.touched + 1
      rest = STEPS[step[1]](step[2], step[3], step[4], step[5])
    end
    if rest then rests[#rests + 1] = rest end
  end
  leave(rests, from_outbox)
end

-- Takes what earlier scripts left over, as far as this one may go.
function F.drain()
  F.run()
  F.draining = true
  while F.touched < STEP_LIMIT do
    local x_id = redis.call('SRANDMEMBER', K.outboxes())
    if not x_id then break end
    local text = redis.call('LPOP', K.outbox(x_id))
    if text then
      local step = {}
      for word in string.gmatch(text, '%S+') do step[#step + 1] = word end
      F.steps[#F.steps + 1] = step
      F.run(true)
    else
      redis.call('SREM', K.outboxes(), x_id)
    end
  end
  F.draining = false
end
