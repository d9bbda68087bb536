-- requires: execution
-- Accepts an execution, once: the same id or the same key again changes nothing.
-- ARGV  id, digest of what is submitted, key ('' for none), spec (JSON), for how long (ms)
--       whoever submits compiles it itself (0: an orchestrator does, at once), then
--       pairs: the execution's fields (name, root, parallelism, policy, ttl_s, domain ...)
-- RETURNS {OK | EXISTS | CONFLICT, the execution's id}
-- KEEPS  one execution a key; CONFLICT when the key or id holds another digest.
local id, digest, key, spec, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local known = id
if key ~= '' then known = redis.call('GET', K.submission(key)) or id end
local there = redis.call('HGET', K.execution(known), 'submitted_digest')
if there then return { there == digest and 'EXISTS' or 'CONFLICT', known } end

local fields = { 'id', id, 'key', key, 'submitted_digest', digest, 'status', 'pending',
  'created_at', now_iso() }
local domain = 'default'
for i = 6, #ARGV, 2 do
  fields[#fields + 1], fields[#fields + 2] = ARGV[i], ARGV[i + 1]
  if ARGV[i] == 'domain' then domain = ARGV[i + 1] end
end
redis.call('HSET', K.execution(id), unpack(fields))
redis.call('SET', K.spec(id), spec)
redis.call('ZADD', K.executions(), NOW_MS, id)
if key ~= '' then redis.call('SET', K.submission(key), id) end
event('execution_pending', 'execution', id)
post_agenda(domain, 'compile ' .. id, lease_ms)
return { 'OK', id }
