-- requires: now names
-- Starts the TTL of an ended execution's keys, from the place `at` in its list of jobs on; returns the
-- place of the next chunk, '' when all is done.
local function expire(x, at, size)
  local names, more = names_from(x.id, at, size)
  local expires_s = math.floor(NOW_MS / 1000) + x.ttl_s
  for _, name in ipairs(names) do
    local id = x.id .. '-' .. name
    local v = redis.call('HMGET', K.job(id), 'origin', 'kind')
    redis.call('EXPIRE', K.job(id), x.ttl_s)
    redis.call('EXPIRE', K.log(x.id, name), x.ttl_s)
    redis.call('EXPIRE', K.history(x.id, name), x.ttl_s)
    if v[1] then
      redis.call('ZADD', K.finished(v[1]), 'XX', expires_s, id)
      redis.call('ZADD', K.failed(v[1]), 'XX', expires_s, id)
    elseif v[2] == 'fan-out' then
      for _, one in ipairs({ K.group(x.id, name), K.group_held(x.id, name), K.folded(x.id, name) }) do
        redis.call('EXPIRE', one, x.ttl_s)
      end
    end
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
