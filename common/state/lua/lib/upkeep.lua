-- requires: settle
-- What must happen now and then, done by whoever beats: reaping silent nodes,
-- promoting what is due, draining outboxes, waking nodes for lists still ready.
local RESCORED = 5000

-- A silent node's attempt is given away after max(time-out, min(25 s, 2 % of its run so far)).
local function patience_ms(timeout_ms, ran_ms)
  return math.max(timeout_ms, math.min(CFG.patience_max_ms, CFG.patience_share * ran_ms))
end
local function reap_node(id, beat)
  local n = N.get(id)
  local silent, kept, moved = NOW_MS - beat, 0, 0
  local jobs, void = S.leased(id)
  for _, lease in ipairs(void) do redis.call('HDEL', K.node_leases(id), lease) end
  for _, job in ipairs(jobs) do
    F.touched = F.touched + 1
    if F.touched > STEP_LIMIT or silent < patience_ms(n.timeout_ms, beat - job.since)
      or not N.could_any(job.class, job.needs, id) then
      kept = kept + 1
    else
      S.lost(job, 'losses', CFG.max_losses, CFG.lost_error)
      moved = moved + 1
    end
  end
  if moved > 0 then event('node_reaped', 'node', id, 'silent_ms', silent, 'jobs', moved) end
  if kept == 0 then
    redis.call('DEL', K.node(id), K.node_inbox(id))
    redis.call('ZREM', K.nodes(), id)
    redis.call('ZREM', K.idle(), id)
    event('node_lost', 'node', id, 'silent_ms', silent)
  end
end
local function reap(since)
  local silent = redis.call('ZRANGEBYSCORE', K.nodes(), '-inf', NOW_MS - 1500, 'WITHSCORES')
  for i = 1, #silent, 2 do
    local timeout_ms, beat = N.get(silent[i]).timeout_ms, tonumber(silent[i + 1])
    if NOW_MS - beat > timeout_ms and NOW_MS - since > timeout_ms then reap_node(silent[i], beat) end
  end
end
-- The millisecond at which another node may be silent for its time-out, so that whoever can look
-- then does; nil while all are heard. Those whose time-out had passed at the last upkeep are known.
local LOOKED_AT, BEAT_MS = 10, 1100
local function next_timeout()
  local oldest = redis.call('ZRANGE', K.nodes(), 0, 0, 'WITHSCORES')
  if not oldest[1] or NOW_MS - tonumber(oldest[2]) <= BEAT_MS then return nil end
  local at, first = tonumber(redis.call('HGET', K.maintenance(), 'at') or 0), nil
  local beats = redis.call('ZRANGE', K.nodes(), 0, LOOKED_AT - 1, 'WITHSCORES')
  for i = 1, #beats, 2 do
    local over = tonumber(beats[i + 1]) + N.get(beats[i]).timeout_ms + 1
    local look_at = math.max(over, at + UPKEEP_MS) -- before that an upkeep does nothing
    if over > at then first = math.min(first or look_at, look_at) end
  end
  return first
end
local function promote()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.due(), '-inf', NOW_MS, 'LIMIT', 0, 100)) do
    redis.call('ZREM', K.due(), id)
    local job = J.get(id)
    if job and job.status == 'scheduled' then
      redis.call('HSET', job.key, 'status', 'deferred')
      job.status = 'deferred'
      G.admit(job)
    end
  end
end
-- Jobs that were taken aside because no live node could run them, where one could now.
-- Entries of jobs that have ended meanwhile go: at the head, and a few of a long list each time.
local function forget_ended(list)
  local length = redis.call('LLEN', list)
  if length <= 1000 then return end
  local at = NOW_MS % length
  for _, id in ipairs(redis.call('LRANGE', list, at, at + 49)) do
    local job = J.get(id)
    if not (job and job.status == 'deferred' and job.unmet == '1') then redis.call('LREM', list, 1, id) end
  end
end
local function unpark_unmet()
  for _, signature in ipairs(redis.call('SMEMBERS', K.unmet())) do
    local class, needs = string.match(signature, '^(.-)|(.*)$')
    local list = K.unmet() .. ':' .. signature
    local served = N.could_any(class, needs)
    while F.touched < STEP_LIMIT do
      local id = redis.call('LINDEX', list, 0)
      local job = id and J.get(id)
      local parked = job and job.status == 'deferred' and job.unmet == '1'
      if not id or (parked and not served) then break end
      F.touched = F.touched + 1
      redis.call('LPOP', list)
      if parked then
        redis.call('HDEL', job.key, 'unmet')
        G.admit(job)
      end
    end
    forget_ended(list)
    if redis.call('EXISTS', list) == 0 then redis.call('SREM', K.unmet(), signature) end
  end
end
-- Looks at the heads of the lists that still hold jobs: parks those that no live node
-- could ever run, and wakes an idle node for the first one left. Returns how many lists.
local function look_at_heads()
  write_later()
  local names = redis.call('ZREVRANGE', K.ready(), 0, 19)
  for _, name in ipairs(names) do
    while F.touched < STEP_LIMIT do
      local id = redis.call('LINDEX', K.queue(name), 0)
      if not id then
        Q.unlist(name)
        break
      end
      local job = J.get(id)
      local waits = job and job.status == 'queued'
      if waits and N.could_any(job.class, job.needs) then
        Q.wake(job.class, job.needs)
        break
      end
      F.touched = F.touched + 1
      redis.call('LPOP', K.queue(name))
      if waits then Q.park_unmet(job) end
    end
  end
  return #names
end
-- The server's clock went back by `by` ms: what lies ahead of it would never count as
-- silent, or be due too late.
local function set_back(by)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K.nodes(), '(' .. NOW_MS, '+inf')) do
    redis.call('ZADD', K.nodes(), NOW_MS, id)
  end
  for _, id in ipairs(redis.call('ZRANGE', K.due(), 0, RESCORED - 1)) do
    redis.call('ZINCRBY', K.due(), -by, id)
  end
  for _, domain in ipairs(redis.call('ZRANGE', K.domains(), 0, -1)) do
    redis.call('ZADD', K.domains(), 'LT', NOW_MS, domain)
    local ahead = redis.call('ZRANGEBYSCORE', K.agenda(domain), '(' .. NOW_MS, '+inf', 'LIMIT', 0, RESCORED)
    for _, item in ipairs(ahead) do redis.call('ZADD', K.agenda(domain), NOW_MS, item) end
  end
end
-- A server that was started again has another id, however quick it was. One that does
-- not tell (an ACL may forbid it) is judged by its gaps alone.
local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end
-- Nobody reaps for one whole time-out after the upkeep was not done for a while, the
-- server was started again, or its clock went back: then it was Redis, or all of us, that
-- was away. `away_ms` is how long a pause counts as that. Returns how many lists hold jobs.
local function upkeep(away_ms, last)
  if not last.due then return redis.call('ZCARD', K.ready()) end
  local at, since, run = last.at, last.steady_since, run_id()
  if NOW_MS < at then set_back(at - NOW_MS) end
  if NOW_MS - at > away_ms or NOW_MS < at or run ~= last.run_id then since = NOW_MS end
  redis.call('HSET', K.maintenance(), 'at', NOW_MS, 'steady_since', since, 'run_id', run)
  reap(since)
  F.run()
  if redis.call('EXISTS', K.due(), K.unmet(), K.ready(), K.outboxes()) == 0 then return 0 end
  promote()
  unpark_unmet()
  local lists = look_at_heads()
  F.drain()
  return lists
end
