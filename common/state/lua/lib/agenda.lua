-- requires: keys now
-- Puts work before the orchestrators and rings their bell once.
local function ring_bell()
  if redis.call('LLEN', K.bell()) == 0 then
    redis.call('LPUSH', K.bell(), '1')
    redis.call('EXPIRE', K.bell(), 60)
  end
end
local function post_agenda(item)
  redis.call('ZADD', K.agenda('default'), NOW_MS, item)
  ring_bell()
end
