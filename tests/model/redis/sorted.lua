-- requires: keyspace
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
