-- requires: keyspace collections sorted
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
function C.TIME() error({ err = 'ERR redis/: the clock is replaced in tests' }) end

-- scripts
local function word(one, name)
  if type(one) == 'number' then return one % 1 == 0 and string.format('%d', one) or text(one) end
  if type(one) ~= 'string' then error({ err = 'ERR an argument is no string: ' .. name }) end
  return one
end
local function call(name, ...)
  local command, count = C[name] or C[name:upper()], select('#', ...)
  if not command then error({ err = 'ERR redis/ does not know ' .. name }) end
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
-- What is flat, of texts and numbers.
local function decode(json)
  local out = {}
  for name, value in json:gmatch('"([^"]+)": ?("?[^",}]+)') do
    out[name] = tonumber(value) or value:sub(2)
  end
  return out
end
local base = { string = string, table = table, math = math, tonumber = tonumber, tostring = tostring,
  type = type, pairs = pairs, ipairs = ipairs, next = next, select = select, unpack = unpack,
  pcall = pcall, error = error, assert = assert, setmetatable = setmetatable, rawget = rawget, rawset = rawset, redis = { call = call, pcall = pcalled },
  cjson = { encode = encode, decode = decode } }
local function compile(body)
  local chunk, problem = loadstring(body, '=script')
  if not chunk then error(problem) end
  -- As in Redis: no global may be made, none that is not there be read.
  local env = setmetatable({}, { __index = function(_, name)
    local found = base[name]
    if found == nil and name ~= 'ARGV' then error('no global ' .. name) end
    return found
  end, __newindex = function(_, name) error('a script made the global ' .. name) end })
  return setfenv(chunk, env), env
end
function R.load(sha, body)
  local chunk, env = compile(body)
  R.scripts[sha] = function(argv)
    rawset(env, 'ARGV', argv)
    return chunk()
  end
end
-- The functions of a library are made once, and known until they are flushed.
local libraries = {}
local function load_library(body)
  local name, from = body:match('^#!lua name=(%S+)\n()')
  if not libraries[name] then
    local functions = {}
    libraries[name] = functions
    base.redis.register_function = function(one) functions[one.function_name] = one.callback end
    compile(body:sub(from))()
    base.redis.register_function = nil
  end
  for one, run in pairs(libraries[name]) do
    if R.functions[one] then error({ err = 'ERR Library already exists' }) end
    R.functions[one] = run
  end
  return name
end
local FUNCTION = { LOAD = load_library, LIST = function() return {} end,
  FLUSH = function() R.functions = {}; return { ok = 'OK' } end }

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
  elseif name == 'FCALL' then
    local run = R.functions[(...)]
    if run then
      ok, reply = pcall(run, {}, { select(3, ...) })
    else
      ok, reply = false, { err = 'ERR Function not found' }
    end
  elseif name == 'FUNCTION' then
    ok, reply = pcall(FUNCTION[(...)], select(2, ...))
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
