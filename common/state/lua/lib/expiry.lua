-- requires: now text names
-- Starts the TTL of an ended execution's keys, from the place `at` in its list of jobs on; returns the
-- place of the next chunk, '' when all is done.
local function expire(x, at, size)
  local names, more = names_from(x.id, at, size)
  local registries, expires_s = {}, TEXT[math.floor(NOW_MS / 1000) + x.ttl_s]
  for _, name in ipairs(names) do
    local id = x.id .. '-' .. name
    local v = redis.call('HMGET', K.job(id), 'status', 'attempt', 'logged', 'origin', 'kind')
    redis.call('EXPIRE', K.job(id), x.ttl_s)
    if v[3] or not v[1] then redis.call('EXPIRE', K.log(x.id, name), x.ttl_s) end
    -- Its first attempt leaves a history when it does not end well.
    if v[1] ~= 'finished' or v[2] ~= '1' then redis.call('EXPIRE', K.history(x.id, name), x.ttl_s) end
    if v[4] then
      local members = registries[v[4]] or {}
      registries[v[4]] = members
      members[#members + 1], members[#members + 2] = expires_s, id
    elseif v[5] == 'fan-out' then
      for _, one in ipairs({ K.group(x.id, name), K.group_held(x.id, name), K.folded(x.id, name) }) do
        redis.call('EXPIRE', one, x.ttl_s)
      end
    end
  end
  for origin, members in pairs(registries) do
    redis.call('ZADD', K.finished(origin), 'XX', unpack(members))
    redis.call('ZADD', K.failed(origin), 'XX', unpack(members))
  end
  if more then return more end
  local key = redis.call('HGET', K.execution(x.id), 'key')
  if key and key ~= '' then redis.call('EXPIRE', K.submission(key), x.ttl_s) end
  for _, one in ipairs({ K.execution(x.id), K.spec(x.id), K.jobs(x.id), K.pages(x.id), K.held(x.id),
    K.parked(x.id), K.outbox(x.id) }) do
    redis.call('EXPIRE', one, x.ttl_s)
  end
  return ''
end
