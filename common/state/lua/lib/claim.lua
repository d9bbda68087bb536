-- requires: text flow
-- Claiming: over the lists a node may serve, the highest priority first, then
-- the head that has waited longest. Entries that do not fit are looked past, up
-- to LOOK_PAST a list; one passed over too often reserves a node.
local C = {}
local LOOK_PAST, PASSES, RESERVE_MS, CLAIM_LIMIT = 32, 20, 60000, 256

local function rewind(r) r.job, r.page, r.at, r.skipped, r.all_read = nil, {}, 1, 0, false end
local function reader(name, page_size)
  local r = { name = name, key = K.queue(name), taken = 0, page_size = page_size }
  rewind(r)
  return r
end
-- Those at its head that were taken leave the list in one command.
local function take_heads(r)
  if r.taken > 0 then redis.call('LTRIM', r.key, r.taken, -1) end
  r.taken = 0
end
local function read_seldom(key) -- SELDOM, in this order
  return redis.call('HMGET', key, 'needs', 'refs', 'timeout', 'timeout_s', 'retry', 'retries', 'retries_left',
    'reserved_by')
end
-- What a claim reads of an entry.
local function read_waiting(key)
  local v = redis.call('HMGET', key, 'status', 'run', 'data', 'attempt', 'special')
  if v[5] then v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12] = unpack(read_seldom(key), 1, 8) end
  return v
end
local function payload_of(data, refs, timeout, timeout_s, retry, retries, retries_left, reserved_by)
  return { data = data or '', refs = refs or '', timeout_s = timeout_s or timeout or CFG.timeout_s,
    retry = retry or '', retries_left = retries_left or retries or TEXT[CFG.retries],
    reserved_by = reserved_by or nil }
end
local function queued_at(key)
  local v = redis.call('HMGET', key, 'enqueued_at', 'created_at')
  return v[1] or v[2] or nil
end
-- An entry as a claim looks at it, with what goes to the daemon. Dates are compared between lists only.
local function waiting_job(id, r)
  local key = K.job(id)
  local v = read_waiting(key)
  if not v[1] then return { id = id, status = 'gone', enqueued_at = '' } end
  local execution, name = parts_of(id)
  local job = job_table(id, key, execution, name, v[1], r.name, v[4], nil, nil, nil, nil, v[5], 'run', v[2],
    r.dated and queued_at(key) or nil, 0)
  job.fields = v
  job.payload = payload_of(v[3], unpack(v, 6, 12))
  return job
end
-- The entry under the reader's head, past those it skipped; nil at its end.
local function peek(r)
  if r.job then return r.job end
  if r.skipped >= LOOK_PAST then return nil end
  if not r.page[r.at] then
    if r.all_read then return nil end
    take_heads(r)
    r.page, r.at = redis.call('LRANGE', r.key, r.skipped, r.skipped + r.page_size - 1), 1
    r.all_read = #r.page < r.page_size
    r.page_size = 64
  end
  local id = r.page[r.at]
  if not id then return nil end
  r.job = waiting_job(id, r)
  return r.job
end
local function skip(r) r.job, r.at, r.skipped = nil, r.at + 1, r.skipped + 1 end
local function remove(r)
  if r.skipped == 0 then
    r.taken = r.taken + 1
  else
    take_heads(r) -- one of them may be the same job: a cancel leaves entries in long lists
    redis.call('LREM', r.key, 1, r.job.id)
  end
  r.job, r.at = nil, r.at + 1
end

-- Of the nodes that could run it, the one that lacks least reserves itself.
local function reserve(job)
  local best, least
  for _, id in ipairs(N.alive_ids()) do
    local n = N.get(id)
    local taken = n.reserved and tonumber(string.match(n.reserved, ' (%d+)$')) > NOW_MS
    if not taken and N.could(n, job.class, job.needs) then
      local free, lack = N.free(n), 0
      for name, amount in pairs(N.charge(n, job.needs)) do
        lack = math.max(lack, (amount - (free[name] or 0)) / math.max(n.total[name] or 0, 1e-9))
      end
      if not least or lack < least then best, least = n, lack end
    end
  end
  if not best then return end
  best.reserved = job.id .. ' ' .. (NOW_MS + RESERVE_MS)
  redis.call('HSET', K.node(best.id), 'reserved', best.reserved)
  redis.call('HSET', job.key, 'reserved_by', best.id, 'passed', 0, 'special', 1)
  event('node_reserved', 'node', best.id, 'execution', job.execution, 'job', job.job)
end
-- The node that keeps itself free for this job, if its reservation still stands.
local function reserving_node(job)
  local n = job.reserved_by and N.get(job.reserved_by)
  local id, till = string.match(n and n.reserved or '', '^(%S+) (%d+)$')
  return id == job.id and tonumber(till) > NOW_MS and n or nil
end
-- Others were claimed that stood behind this job.
local function pass_over(job, n)
  if not N.could(n, job.class, job.needs) then return end
  local passed = redis.call('HINCRBY', job.key, 'passed', 1)
  if passed >= PASSES and not reserving_node(job) then reserve(job) end
end
-- The job this node is kept free for, while it still waits.
local function reservation(n)
  if not n.reserved then return nil end
  local id, till = string.match(n.reserved, '^(%S+) (%d+)$')
  local job = tonumber(till) > NOW_MS and J.get(id)
  if job and job.status == 'queued' then return job end
  redis.call('HDEL', K.node(n.id), 'reserved')
  redis.call('HDEL', K.job(id), 'reserved_by')
  n.reserved = nil
end
local function clear_reservation(job)
  local n = reserving_node(job)
  redis.call('HDEL', job.key, 'reserved_by')
  if not n then return end
  redis.call('HDEL', K.node(n.id), 'reserved')
  n.reserved = nil
end

local function park(job)
  redis.call('HSET', job.key, 'status', 'deferred', 'reason', 'the execution is paused')
  redis.call('RPUSH', K.parked(job.execution), job.id)
  job_event('job_parked', job.execution, job.job)
end

-- What jobs that follow one another in a claim have in common goes to the daemon once: the fields of
-- `Work`, in its order. Returns its place in `C.works`.
local last -- the job that `work_of` saw last; the next one is mostly alike
each_call(function() C.works, C.runs, C.count, C.heads, C.looked, last = {}, {}, 0, 0, 0, nil end)
local function is_like(job, other)
  local p, q = job.payload, other.payload
  return job.execution == other.execution and job.run == other.run and job.needs == other.needs
    and job.origin == other.origin and p.refs == q.refs and p.timeout_s == q.timeout_s and p.retry == q.retry
    and p.retries_left == q.retries_left
end
local function work_of(job)
  if last and is_like(job, last) then return #C.works end
  local x, p = X.get(job.execution), job.payload
  C.works[#C.works + 1] = { x.id, job.run, x.root, x.digest, p.refs, p.timeout_s, job.needs, job.priority,
    job.origin, p.retry, p.retries_left }
  last = job
  return #C.works
end
-- A job's way to the daemon, in `C.runs`: the place of its work, whether it is a rider, and its attempt, which those
-- share that ride along; then its name (theirs after it, separated by spaces), and a payload each.
local function hand_out(job, rider)
  C.count = C.count + 1
  if not rider then C.heads = C.heads + 1 end
  C.runs[#C.runs + 1] = { work_of(job), rider and 1 or 0, job.attempt, job.job, job.payload.data }
end
-- The same of one that was claimed before.
function C.again(id, origin, claim, rider)
  local job = waiting_job(id, { name = origin })
  job.claim = claim
  hand_out(job, rider)
end

-- A rider takes nothing of the node: its slot's place is taken already.
local RIDES = {}
-- `...` are further fields of one that is no rider.
local function take(n, job, claim_id, free, rider, ...)
  local charge, text = RIDES, ''
  if not rider then charge, text = N.charge(n, job.needs) end
  local kept = reservation(n)
  if job.payload.reserved_by then clear_reservation(job) end
  job.attempt, job.claim, job.status = job.attempt + 1, claim_id, 'started'
  job.worker_name = n.id
  Q.fresh[job.id] = nil
  local attempt = TEXT[job.attempt]
  if rider then -- S.show_rider writes the rest, if it comes to that
    if job.attempt > 1 then redis.call('HDEL', job.key, 'started_at') end
    redis.call('HSET', job.key, 'status', 'started', 'attempt', attempt, 'claim', claim_id, 'worker_name', n.id)
  else
    redis.call('HSET', job.key, 'status', 'started', 'attempt', attempt, 'claim', claim_id,
      'worker_name', n.id, 'started_at', now_iso(), ...)
    do_later('ZADD', K.wip(job.origin), '+inf', job.id .. ':' .. claim_id)
  end
  do_later('HSET', K.node_leases(n.id), job.id,
    attempt .. ' ' .. claim_id .. ' ' .. TEXT[NOW_MS] .. ' ' .. text)
  if rider then
    job_event('job_started', job.execution, job.job, 'attempt', attempt, 'node', n.id, 'queue', job.origin, 'rider', '1')
  else
    event('job_started', 'execution', job.execution, 'job', job.job, 'attempt', attempt, 'node', n.id,
      'queue', job.origin, 'needs', job.needs, 'free', A.format(free), 'reservation',
      kept and kept.id or '')
    A.add(n.used, charge, 1)
    A.add(free, charge, -1)
  end
  X.count(X.get(job.execution), 'running', 1)
  hand_out(job, rider)
end

-- Those behind a rider that are like it, in all but what is a job's own, ride as well, up to `most` of them, and
-- without a table for each. What is not like it is read again, as any other. How many these are.
local function ride_along(r, n, first, claim_id, most)
  local w, start, attempt, run = first.fields, first.execution .. '-', TEXT[first.attempt], C.runs[#C.runs]
  local lease, leases, names = attempt .. ' ' .. claim_id .. ' ' .. TEXT[NOW_MS] .. ' ', {}, {}
  local took = 0
  while took < most do
    local id = r.page[r.at + took]
    if not id or string.sub(id, 1, #start) ~= start then break end
    local key = K.job(id)
    local v = read_waiting(key)
    if v[1] ~= 'queued' or v[2] ~= w[2] or v[4] ~= w[4] or v[5] ~= w[5] or v[6] ~= w[6] or v[7] ~= w[7]
      or v[8] ~= w[8] or v[9] ~= w[9] or v[10] ~= w[10] or v[11] ~= w[11] or v[12] then break end
    if first.attempt > 1 then redis.call('HDEL', key, 'started_at') end
    redis.call('HSET', key, 'status', 'started', 'attempt', attempt, 'claim', claim_id, 'worker_name', n.id)
    Q.fresh[id] = nil
    took = took + 1
    names[took], leases[2 * took - 1], leases[2 * took] = string.sub(id, #start + 1), id, lease
    run[5 + took] = v[3] or ''
  end
  if took > 0 then
    redis.call('HSET', n.leases_key, unpack(leases))
    job_events('job_started', first.execution, names, 'attempt', attempt, 'node', n.id, 'queue', first.origin,
      'rider', '1')
    run[4] = run[4] .. ' ' .. table.concat(names, ' ')
    r.at, r.taken, C.looked, C.count = r.at + took, r.taken + took, C.looked + took, C.count + took
    X.count(X.get(first.execution), 'running', took)
  end
  return took
end

-- Queues this node may serve, in groups of one priority, highest first.
local function levels(n, page_size)
  local paused = {}
  for _, name in ipairs(redis.call('SMEMBERS', K.paused())) do paused[name] = true end
  local entries, out = redis.call('ZREVRANGE', K.ready(), 0, -1, 'WITHSCORES'), {}
  for i = 1, #entries, 2 do
    local name, priority = entries[i], tonumber(entries[i + 1])
    if not paused[name] and N.has_tags(n, string.match(name, '^(.*)%.p%d+$')) then
      local last = out[#out]
      if not last or last.priority ~= priority then
        last = { priority = priority, readers = {} }
        out[#out + 1] = last
      end
      last.readers[#last.readers + 1] = reader(name, page_size)
    end
  end
  for _, level in ipairs(out) do
    for _, r in ipairs(level.readers) do r.dated = #level.readers > 1 end
  end
  return out
end
-- Of the readers of a level, the one whose head has waited longest.
local function oldest(level)
  local best
  for _, r in ipairs(level.readers) do
    local job = peek(r)
    if job and (not best or (job.enqueued_at or '') < (best.job.enqueued_at or '')) then best = r end
  end
  return best
end
-- Entries that are not to be claimed: gone, of a closed or a paused execution, or
-- such as no live node could ever run.
local function dismiss(r, n)
  local job = r.job
  if job.status ~= 'queued' then
    remove(r)
    return true
  end
  local x = X.get(job.execution)
  C.looked = C.looked + 1
  if X.closed(x) then
    remove(r) -- the cancel that is under way ends it, in its order
    return true
  elseif x.status == 'paused' then
    remove(r)
    park(job)
    return true
  elseif not N.could(n, job.class, job.needs) and not N.could_any(job.class, job.needs) then
    remove(r)
    Q.park_unmet(J.get(job.id))
    return true
  end
end

-- How a daemon names the function of a job; the next job is mostly alike.
local asked
each_call(function() asked = {} end)
local function function_of(job)
  if asked.run ~= job.run or asked.execution ~= job.execution then
    local x = X.get(job.execution)
    asked = { run = job.run, execution = job.execution, key = x.root .. '|' .. x.digest .. '|' .. (job.run or '') }
  end
  return asked.key
end
local function riders_in(ahead)
  local count = 0
  for _, riders in pairs(ahead) do count = count + riders end
  return count
end
-- Claims the heir, where nothing waits in any list; false if this node may not.
function C.claim_heir(n, claim_id, free)
  local job = Q.take_heir(n, free)
  if not job then return false end
  local v = redis.call('HMGET', job.key, 'data', 'special')
  job.payload = payload_of(v[1], unpack(v[2] and read_seldom(job.key) or {}, 2, 8))
  take(n, job, claim_id, free, false, 'enqueued_at', job.enqueued_at, 'waits', '0')
  return true
end
-- Claims up to `lanes` jobs that fit `free`, then riders for functions known to
-- be short (`ahead`), while the order of the lists allows.
function C.claim(n, claim_id, lanes, free, ahead, other_idle)
  write_later() -- what this script queued is in the lists then
  local served, passed, kept = {}, {}, reservation(n)
  local wanted = lanes + riders_in(ahead)
  for _, level in ipairs(levels(n, math.min(wanted + 1, 64))) do
    for _, r in ipairs(level.readers) do served[#served + 1] = r end
    while C.count < math.min(wanted, CLAIM_LIMIT) and C.looked < STEP_LIMIT do
      local r = oldest(level)
      if not r then break end
      local job = r.job
      if not dismiss(r, n) then
        local held_back = kept and job.id ~= kept.id and level.priority <= kept.priority
        if lanes > 0 and not held_back and A.within(N.charge(n, job.needs), free) then
          remove(r)
          take(n, job, claim_id, free, false)
          if kept and job.id == kept.id then
            kept = nil -- what stood before it and was held back may fit beside it
            for _, other in ipairs(level.readers) do rewind(other) end
          end
          lanes = lanes - 1
        elseif lanes > 0 then
          skip(r)
          if not held_back then passed[#passed + 1] = { job = job, after = C.count } end
        else
          local key = function_of(job)
          local riders = not kept and not other_idle and job.needs == '' and ahead[key] or 0
          if riders <= 0 then break end
          ahead[key] = riders - 1
          remove(r)
          take(n, job, claim_id, free, true)
          if #level.readers == 1 and r.skipped == 0 then
            ahead[key] = ahead[key] - ride_along(r, n, job, claim_id, math.min(riders - 1, CLAIM_LIMIT - C.count, STEP_LIMIT - C.looked))
          end
        end
      end
    end
    if C.count >= wanted or lanes <= 0 and oldest(level) then break end
  end
  for _, one in ipairs(passed) do
    if C.count > one.after then pass_over(one.job, n) end
  end
  for _, r in ipairs(served) do
    take_heads(r)
    if redis.call('LLEN', r.key) == 0 then Q.unlist(r.name) end
  end
end
