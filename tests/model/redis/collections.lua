-- requires: keyspace
-- hashes
function C.HSET(key, ...)
  local one, pairs_, new = make(key, 'hash'), { ... }, 0
  if #pairs_ == 0 or #pairs_ % 2 == 1 then error({ err = 'ERR wrong number of arguments' }) end
  for i = 1, #pairs_, 2 do
    if one.of[pairs_[i]] == nil then
      one.order[#one.order + 1] = pairs_[i]
      new = new + 1
    end
    one.of[pairs_[i]] = pairs_[i + 1]
  end
  return new
end
function C.HSETNX(key, name, value)
  local one = get(key, 'hash')
  if one and one.of[name] ~= nil then return 0 end
  return C.HSET(key, name, value)
end
function C.HGET(key, name)
  local one = get(key, 'hash')
  return one and one.of[name] or false
end
function C.HEXISTS(key, name) return C.HGET(key, name) and 1 or 0 end
function C.HMGET(key, ...)
  local one, out = get(key, 'hash'), { ... }
  for i = 1, #out do out[i] = one and one.of[out[i]] or false end
  return out
end
function C.HGETALL(key)
  local one, out = get(key, 'hash'), {}
  for i, name in ipairs(one and one.order or {}) do out[2 * i - 1], out[2 * i] = name, one.of[name] end
  return out
end
function C.HKEYS(key)
  local one, out = get(key, 'hash'), {}
  for i, name in ipairs(one and one.order or {}) do out[i] = name end
  return out
end
function C.HLEN(key)
  local one = get(key, 'hash')
  return one and #one.order or 0
end
function C.HDEL(key, ...)
  local one, count = get(key, 'hash'), 0
  if not one then return 0 end
  for _, name in ipairs({ ... }) do
    if one.of[name] ~= nil then
      one.of[name] = nil
      forget(one.order, name)
      count = count + 1
    end
  end
  drop_if_empty(key, one)
  return count
end
function C.HINCRBY(key, name, by)
  local now = number(C.HGET(key, name) or '0') + tonumber(by)
  C.HSET(key, name, text(now))
  return now
end

-- lists
function C.RPUSH(key, ...)
  local one = make(key, 'list')
  for _, value in ipairs({ ... }) do one.of[#one.of + 1] = value end
  return #one.of
end
function C.LPUSH(key, ...)
  local one = make(key, 'list')
  for _, value in ipairs({ ... }) do table.insert(one.of, 1, value) end
  return #one.of
end
local function pop(key, at)
  local one = get(key, 'list')
  if not one then return false end
  local value = table.remove(one.of, at)
  drop_if_empty(key, one)
  return value
end
function C.LPOP(key, count)
  if not count then return pop(key, 1) end
  local out = {}
  for _ = 1, tonumber(count) do
    local value = pop(key, 1)
    if not value then break end
    out[#out + 1] = value
  end
  return #out > 0 and out
end
function C.RPOP(key) return pop(key) end
function C.LSET(key, at, value)
  local one, place = get(key, 'list'), tonumber(at)
  if not one then error({ err = 'ERR no such key' }) end
  place = place < 0 and #one.of + place + 1 or place + 1
  if one.of[place] == nil then error({ err = 'ERR index out of range' }) end
  one.of[place] = value
  return { ok = 'OK' }
end
function C.LLEN(key)
  local one = get(key, 'list')
  return one and #one.of or 0
end
function C.LINDEX(key, at)
  local one = get(key, 'list')
  at = tonumber(at)
  return one and one.of[at < 0 and #one.of + at + 1 or at + 1] or false
end
function C.LRANGE(key, from, to)
  local one, out = get(key, 'list'), {}
  if not one then return out end
  from, to = places(from, to, #one.of)
  for i = from, to do out[#out + 1] = one.of[i] end
  return out
end
function C.LREM(key, count, value)
  local one, gone = get(key, 'list'), 0
  count = tonumber(count)
  if not one then return 0 end
  if count < 0 then error({ err = 'ERR redis/: LREM from the tail is not there' }) end
  local i = 1
  while i <= #one.of and (count == 0 or gone < count) do
    if one.of[i] == value then
      table.remove(one.of, i)
      gone = gone + 1
    else
      i = i + 1
    end
  end
  drop_if_empty(key, one)
  return gone
end
function C.LPOS(key, value)
  for i, one in ipairs(C.LRANGE(key, 0, -1)) do if one == value then return i - 1 end end
  return false
end
function C.LTRIM(key, from, to)
  local kept = C.LRANGE(key, from, to)
  if #kept == 0 then C.DEL(key) else get(key, 'list').of = kept end
  return { ok = 'OK' }
end

-- sets
function C.SADD(key, ...)
  local one, count = make(key, 'set'), 0
  for _, member in ipairs({ ... }) do
    if not one.of[member] then
      one.of[member] = true
      one.order[#one.order + 1] = member
      count = count + 1
    end
  end
  return count
end
function C.SREM(key, ...)
  local one, count = get(key, 'set'), 0
  if not one then return 0 end
  for _, member in ipairs({ ... }) do
    if one.of[member] then
      one.of[member] = nil
      forget(one.order, member)
      count = count + 1
    end
  end
  drop_if_empty(key, one)
  return count
end
function C.SMEMBERS(key)
  local one, out = get(key, 'set'), {}
  for i, member in ipairs(one and one.order or {}) do out[i] = member end
  return out
end
function C.SCARD(key)
  local one = get(key, 'set')
  return one and #one.order or 0
end
function C.SISMEMBER(key, member)
  local one = get(key, 'set')
  return one and one.of[member] and 1 or 0
end
function C.SRANDMEMBER(key)
  local one = get(key, 'set')
  return one and one.order[1] or false
end
