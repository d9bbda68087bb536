-- requires: agenda
-- Leases work to an orchestrator: it comes up again unless it is reported done.
-- ARGV  the domains it serves (`gpu rag`, or `*`), lease (ms), at most
-- RETURNS {the lease's mark, ms until more comes up (-1: none), domain, item, domain, item ...}
-- KEEPS  work of a domain is left to those who serve it, while there are any.
local FORGET_MS = 3600000 -- a domain without work or visits
local mark, room = lease_mark(tonumber(ARGV[2])), tonumber(ARGV[3])
local mine = visit(ARGV[1])
local rows, seen, names = redis.call('ZRANGE', K.domains(), 0, -1, 'WITHSCORES'), {}, {}
for i = 1, #rows, 2 do
  seen[rows[i]] = tonumber(rows[i + 1])
  if rows[i] ~= '*' then names[#names + 1] = rows[i] end
end

local taken, next_ms = { mark, '-1' }, nil
local function look_at(domain)
  local opens_ms = (mine['*'] or mine[domain]) and 0
    or math.max(seen[domain], seen['*'] or 0) + TAKEOVER_MS
  local items = redis.call('ZRANGE', K.agenda(domain), 0, room, 'WITHSCORES')
  for i = 1, #items, 2 do
    local at = math.max(tonumber(items[i + 1]), opens_ms)
    if at <= NOW_MS and room > 0 then
      room = room - 1
      redis.call('ZADD', K.agenda(domain), mark, items[i])
      taken[#taken + 1], taken[#taken + 2] = domain, items[i]
      at = tonumber(mark)
    end
    next_ms = math.min(next_ms or at, at)
  end
  if #items == 0 and NOW_MS - seen[domain] > FORGET_MS then redis.call('ZREM', K.domains(), domain) end
end
-- Each domain is the first one at some time.
for i = 1, #names do look_at(names[(NOW_MS + i) % #names + 1]) end
if next_ms then taken[2] = tostring(math.floor(math.max(0, next_ms - NOW_MS))) end
return taken
