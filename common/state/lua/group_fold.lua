-- requires: job execution
-- Takes children that have finished out of Redis, once each: what fan-ins need of them is in a text.
-- ARGV  execution, fan-out, how often it was folded before, the text (JSON), 1 when it takes the place of
--       the last one, then for each chunk: its number, 1 when more of it may finish, the names that go (`a b`)
-- FLAGS allow-oom
-- RETURNS OK | MOVED (another folded meanwhile, or this is not the time: read anew, or leave it)
-- KEEPS  a child that has finished is in Redis or in one text, never in both; nothing goes once the fan-out
--        has ended, when its fan-ins read both, or while something is left to do that counts its children.
local x, name, folds = X.get(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local key, source = K.group(x.id, name), J.get(x.id .. '-' .. name)
local v = redis.call('HMGET', key, 'folds', 'live')
if X.closed(x) or not source or source.status ~= 'started' or not v[2] or tonumber(v[1] or 0) ~= folds
  or redis.call('HGET', K.execution(x.id), 'retrying') or redis.call('LLEN', K.outbox(x.id)) > 0 then
  return 'MOVED'
end

local gone, keys, dropped, origin = {}, {}, {}, nil
for at = 6, #ARGV, 3 do
  for child in string.gmatch(ARGV[at + 2], '%S+') do
    local id = x.id .. '-' .. child
    origin = origin or redis.call('HGET', K.job(id), 'origin')
    gone[child], dropped[#dropped + 1] = true, id
    keys[#keys + 1], keys[#keys + 2] = K.job(id), K.log(x.id, child)
    keys[#keys + 1] = K.history(x.id, child)
  end
end
local live = v[2]
for at = 6, #ARGV, 3 do
  local chunk, stay = ARGV[at], {}
  local place = name .. ':' .. chunk
  for child in string.gmatch(redis.call('HGET', K.pages(x.id), place) or '', '%S+') do
    if not gone[child] then stay[#stay + 1] = child end
  end
  if #stay > 0 then
    redis.call('HSET', K.pages(x.id), place, table.concat(stay, ' '))
  else
    redis.call('HDEL', K.pages(x.id), place)
  end
  if ARGV[at + 1] ~= '1' then live = string.gsub(live, ' ' .. chunk .. ' ', ' ', 1) end
end
redis.call('HSET', key, 'folds', folds + 1, 'live', live)
redis.call('HINCRBY', key, 'folded', #dropped)
if ARGV[5] == '1' then
  redis.call('LSET', K.folded(x.id, name), -1, ARGV[4])
else
  redis.call('RPUSH', K.folded(x.id, name), ARGV[4])
end
if #dropped > 0 then
  redis.call('DEL', unpack(keys))
  if origin then redis.call('ZREM', K.finished(origin), unpack(dropped)) end
end
event('group_folded', 'execution', x.id, 'job', name, 'jobs', #dropped)
return 'OK'
