-- The part of Redis that the scripts use, in the process of the test: no socket, no other process
-- to wait for, and a state that can be saved and put back. Commands behave as Redis documents them;
-- nothing expires (TTLs are kept, to be looked at); sets answer in the order of their insertion.
-- test_server.py drives it and a real Redis side by side.
if rawget(_G, 'jit') then jit.off() end -- scripts run too seldom, and differ too much, for traces to pay
local R = { compiled = {}, run_id = '0123456789abcdef0123456789abcdef01234567', scripts = {} }
local db, ttl

function R.flush() db, ttl = {}, {} end
R.flush()

-- A key is { kind, members, order }: `order` lists a hash's fields and a set's members as they came.
local function get(key, kind)
  local found = db[key]
  if found and found.kind ~= kind then
    error({ err = 'WRONGTYPE Operation against a key holding the wrong kind of value' })
  end
  return found
end
local function make(key, kind)
  local found = get(key, kind)
  if not found then
    found = { kind = kind, of = {}, order = {} }
    db[key] = found
  end
  return found
end
local function drop_if_empty(key, one)
  if next(one.of) == nil then db[key], ttl[key] = nil, nil end
end
local function forget(order, name)
  for i = 1, #order do
    if order[i] == name then
      table.remove(order, i)
      return
    end
  end
end

local function text(number)
  if number == math.huge then return 'inf' elseif number == -math.huge then return '-inf' end
  return string.format('%.17g', number)
end
local function number(word)
  if word == '+inf' or word == 'inf' then return math.huge end
  if word == '-inf' then return -math.huge end
  return tonumber(word) or error({ err = 'ERR value is not a valid number' })
end
-- First and last place (from 1) of a range as Redis counts it.
local function places(from, to, length)
  from, to = tonumber(from), tonumber(to)
  if from < 0 then from = math.max(length + from, 0) end
  if to < 0 then to = length + to end
  return from + 1, math.min(to, length - 1) + 1
end

local C = {}

-- keys
function C.DEL(...)
  local count = 0
  for _, key in ipairs({ ... }) do
    if db[key] then count = count + 1 end
    db[key], ttl[key] = nil, nil
  end
  return count
end
function C.EXISTS(...)
  local count = 0
  for _, key in ipairs({ ... }) do count = count + (db[key] and 1 or 0) end
  return count
end
function C.KEYS(glob)
  local pattern = '^' .. glob:gsub('[%-%.%+%[%]%(%)%$%^%%]', '%%%0'):gsub('%*', '.*') .. '$'
  local out = {}
  for key in pairs(db) do if key:find(pattern) then out[#out + 1] = key end end
  table.sort(out)
  return out
end
function C.PEXPIRE(key, ms)
  if not db[key] then return 0 end
  ttl[key] = tonumber(ms)
  return 1
end
function C.EXPIRE(key, seconds) return C.PEXPIRE(key, tonumber(seconds) * 1000) end
function C.PERSIST(key)
  local had = ttl[key] and 1 or 0
  ttl[key] = nil
  return had
end
function C.TTL(key) return db[key] and (ttl[key] and math.floor(ttl[key] / 1000) or -1) or -2 end
function C.PTTL(key) return db[key] and (ttl[key] or -1) or -2 end
function C.FLUSHDB() R.flush() return { ok = 'OK' } end

-- strings
function C.SET(key, value)
  db[key], ttl[key] = { kind = 'string', of = { value } }, nil
  return { ok = 'OK' }
end
function C.GET(key)
  local one = get(key, 'string')
  return one and one.of[1] or false
end
function C.INCRBY(key, by)
  local one = make(key, 'string')
  one.of[1] = text(number(one.of[1] or '0') + tonumber(by))
  return tonumber(one.of[1])
end
function C.INCR(key) return C.INCRBY(key, 1) end
function C.APPEND(key, more)
  local one = make(key, 'string')
  one.of[1] = (one.of[1] or '') .. more
  return #one.of[1]
end
function C.STRLEN(key)
  local one = get(key, 'string')
  return one and #one.of[1] or 0
end

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
function C.LPOP(key) return pop(key, 1) end
function C.RPOP(key) return pop(key) end
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
  if count < 0 then error({ err = 'ERR redis.lua: LREM from the tail is not there' }) end
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

-- sorted sets
local function sorted(key, reverse)
  local one, out = get(key, 'zset'), {}
  if not one then return out end
  for member, score in pairs(one.of) do out[#out + 1] = { member, score } end
  table.sort(out, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  if reverse then
    for i = 1, math.floor(#out / 2) do out[i], out[#out + 1 - i] = out[#out + 1 - i], out[i] end
  end
  return out
end
local function rows(entries, from, to, with_scores)
  local out = {}
  for i = from, to do
    out[#out + 1] = entries[i][1]
    if with_scores then out[#out + 1] = text(entries[i][2]) end
  end
  return out
end
function C.ZADD(key, ...)
  local words, at, only = { ... }, 1, nil
  while words[at] == 'XX' or words[at] == 'NX' or words[at] == 'GT' or words[at] == 'LT' do
    only, at = words[at], at + 1
  end
  local one, new = get(key, 'zset'), 0
  if not one and only == 'XX' then return 0 end
  one = make(key, 'zset')
  for i = at, #words, 2 do
    local score, had = number(words[i]), one.of[words[i + 1]]
    if not had then new = new + (only == 'XX' and 0 or 1) end
    local skip = only == 'XX' and not had or only == 'NX' and had
      or had and (only == 'GT' and score <= had or only == 'LT' and score >= had)
    if not skip then one.of[words[i + 1]] = score end
  end
  drop_if_empty(key, one)
  return new
end
function C.ZREM(key, ...)
  local one, count = get(key, 'zset'), 0
  if not one then return 0 end
  for _, member in ipairs({ ... }) do
    if one.of[member] then count, one.of[member] = count + 1, nil end
  end
  drop_if_empty(key, one)
  return count
end
function C.ZSCORE(key, member)
  local one = get(key, 'zset')
  return one and one.of[member] and text(one.of[member]) or false
end
function C.ZMSCORE(key, ...)
  local out = { ... }
  for i = 1, #out do out[i] = C.ZSCORE(key, out[i]) end
  return out
end
function C.ZINCRBY(key, by, member)
  local one = make(key, 'zset')
  one.of[member] = (one.of[member] or 0) + number(by)
  return text(one.of[member])
end
function C.ZCARD(key)
  return #sorted(key)
end
function C.ZRANGE(key, from, to, scores)
  local entries = sorted(key)
  from, to = places(from, to, #entries)
  return rows(entries, from, to, scores)
end
function C.ZREVRANGE(key, from, to, scores)
  local entries = sorted(key, true)
  from, to = places(from, to, #entries)
  return rows(entries, from, to, scores)
end
local function bound(word)
  if word:sub(1, 1) == '(' then return number(word:sub(2)), true end
  return number(word), false
end
local function between(key, min, max)
  local low, low_open = bound(min)
  local high, high_open = bound(max)
  local out = {}
  for _, entry in ipairs(sorted(key)) do
    local score = entry[2]
    if (score > low or score == low and not low_open)
      and (score < high or score == high and not high_open) then
      out[#out + 1] = entry
    end
  end
  return out
end
function C.ZRANGEBYSCORE(key, min, max, ...)
  local entries, words, with_scores = between(key, min, max), { ... }, false
  local from, to, i = 1, #entries, 1
  while words[i] do
    if words[i]:upper() == 'WITHSCORES' then
      with_scores = true
    elseif words[i]:upper() == 'LIMIT' then
      from = tonumber(words[i + 1]) + 1
      to = math.min(to, from - 1 + tonumber(words[i + 2]))
      i = i + 2
    end
    i = i + 1
  end
  return rows(entries, from, to, with_scores)
end
function C.ZCOUNT(key, min, max) return #between(key, min, max) end
function C.ZREMRANGEBYSCORE(key, min, max)
  local gone = between(key, min, max)
  for _, entry in ipairs(gone) do C.ZREM(key, entry[1]) end
  return #gone
end
function C.ZREMRANGEBYRANK(key, from, to)
  local gone = C.ZRANGE(key, from, to)
  for _, member in ipairs(gone) do C.ZREM(key, member) end
  return #gone
end

-- the rest
function C.XADD(key, ...)
  local words = { ... }
  local at = words[1] == 'MAXLEN' and (words[2] == '~' and 4 or 3) or 1
  local one = make(key, 'stream')
  one.of[#one.of + 1] = { unpack(words, at + 1) }
  return #one.of .. '-0'
end
function C.XRANGE(key)
  local one, out = get(key, 'stream'), {}
  for i, fields in ipairs(one and one.of or {}) do out[i] = { i .. '-0', fields } end
  return out
end
function C.PUBLISH() return 0 end
function C.INFO() return '# Server\r\nrun_id:' .. R.run_id .. '\r\n' end
function C.TIME() error({ err = 'ERR redis.lua: the clock is replaced in tests' }) end

-- scripts
local function word(one, name)
  if type(one) == 'number' then return one % 1 == 0 and string.format('%d', one) or text(one) end
  if type(one) ~= 'string' then error({ err = 'ERR an argument is no string: ' .. name }) end
  return one
end
local function call(name, ...)
  local command, count = C[name] or C[name:upper()], select('#', ...)
  if not command then error({ err = 'ERR redis.lua does not know ' .. name }) end
  local a, b, c, d = ...
  if count == 1 then return command(word(a, name)) or false end
  if count == 2 then return command(word(a, name), word(b, name)) or false end
  if count == 3 then return command(word(a, name), word(b, name), word(c, name)) or false end
  if count == 4 then return command(word(a, name), word(b, name), word(c, name), word(d, name)) or false end
  local words = { ... }
  for i = 1, count do words[i] = word(words[i], name) end
  return command(unpack(words)) or false
end
local function pcalled(...)
  local ok, reply = pcall(call, ...)
  return reply
end
local function encode(one)
  if type(one) ~= 'table' then return type(one) == 'string' and string.format('%q', one) or tostring(one) end
  local out = {}
  for name, value in pairs(one) do out[#out + 1] = encode(name) .. ':' .. encode(value) end
  table.sort(out)
  return '{' .. table.concat(out, ',') .. '}'
end
local base = { string = string, table = table, math = math, tonumber = tonumber, tostring = tostring,
  type = type, pairs = pairs, ipairs = ipairs, next = next, select = select, unpack = unpack,
  pcall = pcall, error = error, assert = assert, redis = { call = call, pcall = pcalled },
  cjson = { encode = encode } }
function R.load(sha, body)
  R.scripts[sha] = R.compiled[sha]
  if R.scripts[sha] then return end
  local chunk, problem = loadstring(body, '=script')
  if not chunk then error(problem) end
  -- As in Redis: no global may be made, none that is not there be read.
  local env = setmetatable({}, { __index = function(_, name)
    local found = base[name]
    if found == nil and name ~= 'ARGV' then error('no global ' .. name) end
    return found
  end, __newindex = function(_, name) error('a script made the global ' .. name) end })
  setfenv(chunk, env)
  R.scripts[sha] = function(argv)
    rawset(env, 'ARGV', argv)
    return chunk()
  end
  R.compiled[sha] = R.scripts[sha]
end

-- A reply as Redis writes it (RESP 2), for a client's parser.
local function write(reply, out)
  local kind = type(reply)
  if kind == 'string' then
    out[#out + 1] = '$' .. #reply .. '\r\n' .. reply .. '\r\n'
  elseif kind == 'number' then
    out[#out + 1] = ':' .. string.format('%d', reply) .. '\r\n'
  elseif kind ~= 'table' then
    out[#out + 1] = reply == true and ':1\r\n' or '$-1\r\n'
  elseif reply.ok then
    out[#out + 1] = '+' .. reply.ok .. '\r\n'
  elseif reply.err then
    out[#out + 1] = '-' .. reply.err .. '\r\n'
  else
    local count = 0
    while reply[count + 1] ~= nil do count = count + 1 end
    out[#out + 1] = '*' .. count .. '\r\n'
    for i = 1, count do write(reply[i], out) end
  end
end
-- Runs one command: its name, then its words.
function R.run(name, ...)
  local ok, reply
  if name == 'EVALSHA' then
    local script = R.scripts[(...)]
    if script then
      ok, reply = pcall(script, { select(3, ...) })
    else
      ok, reply = false, { err = 'NOSCRIPT No matching script.' }
    end
  elseif name == 'SCRIPT' then -- FLUSH
    R.scripts, ok, reply = {}, true, { ok = 'OK' }
  else
    ok, reply = pcall(call, name, ...)
  end
  if not ok and type(reply) ~= 'table' then reply = { err = 'ERR ' .. tostring(reply):gsub('[\r\n]', ' ') } end
  local out = {}
  write(reply, out)
  return table.concat(out)
end

-- The whole state as text, the same for the same content: without the keys and the hashes' fields
-- that are to be left out (some of them unless the job runs), sets and sorted sets in the order of their members.
local function has(patterns, name)
  for _, pattern in ipairs(patterns) do if name:find(pattern) then return true end end
  return false
end
local function describe(one, no_fields, while_started)
  local out, ended = {}, one.of.status and one.of.status ~= 'started'
  if one.kind == 'list' or one.kind == 'string' then
    for i, value in ipairs(one.of) do out[i] = value end
    return table.concat(out, ',')
  end
  for name, value in pairs(one.of) do
    if one.kind ~= 'hash' then out[#out + 1] = name
    elseif not no_fields[name] and not (ended and while_started[name]) then out[#out + 1] = name .. '=' .. value end
  end
  table.sort(out)
  return table.concat(out, ',')
end
local function words(text_, as_set)
  local out = {}
  for one in text_:gmatch('%S+') do out[as_set and one or #out + 1] = as_set and true or one end
  return out
end
function R.describe(no_keys, no_fields, while_started)
  local lines, patterns = {}, words(no_keys)
  no_fields, while_started = words(no_fields, true), words(while_started, true)
  for key, one in pairs(db) do
    if not has(patterns, key) then lines[#lines + 1] = key .. ' ' .. describe(one, no_fields, while_started) end
  end
  table.sort(lines)
  return table.concat(lines, '\n')
end

-- The whole state, to be put back later; neither may be changed.
local function copy(one)
  if type(one) ~= 'table' then return one end
  local out = {}
  for name, value in pairs(one) do out[name] = copy(value) end
  return out
end
function R.save() return { copy(db), copy(ttl), R.run_id } end
function R.restore(saved) db, ttl, R.run_id = copy(saved[1]), copy(saved[2]), saved[3] end

return R
