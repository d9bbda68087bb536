-- The part of Redis that the scripts use, in the process of the test: no socket, no other process
-- to wait for, and a state that can be saved and put back. Commands behave as Redis documents them;
-- nothing expires (TTLs are kept, to be looked at); sets answer in the order of their insertion.
-- The files of this folder are one program, joined by server.py; test_state_machine.py plays it and
-- a real Redis side by side.
if rawget(_G, 'jit') then jit.off() end -- scripts run too seldom, and differ too much, for traces to pay
local R = { functions = {}, run_id = '0123456789abcdef0123456789abcdef01234567', scripts = {} }
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
