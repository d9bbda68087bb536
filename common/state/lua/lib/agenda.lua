-- requires: now
-- Work before the orchestrators, by domain. `penstock:domains` holds when one who serves
-- a domain last looked (`*`: one who serves all); a domain counts from its first work.
local TAKEOVER_MS = 3000 -- a domain that nobody served for so long is everyone's
local rung
each_call(function() rung = {} end)
-- The word is a domain with work, `*` when nobody serves that domain, or '' when
-- something is due before orchestrators look by themselves.
local function ring_bell(word)
  if rung[word] then return end
  rung[word] = true
  redis.call('PUBLISH', K.bell(), word)
end
-- The mark of a lease given now, as text: no two are alike, so that one who comes too
-- late never takes the item of another for its own. It is up to a millisecond shorter.
local function lease_mark(lease_ms)
  return string.format('%.3f', NOW_MS + lease_ms - 1 + NOW_US / 1000)
end
-- Puts an item before those who serve a domain: now, or (`in_ms`) when whoever posts it may have died.
local function post_agenda(domain, item, in_ms)
  redis.call('ZADD', K.agenda(domain), NOW_MS + (in_ms or 0), item)
  local seen = redis.call('ZMSCORE', K.domains(), domain, '*')
  if not seen[1] then redis.call('ZADD', K.domains(), NOW_MS, domain) end
  if (in_ms or 0) > 0 then return end
  local visited = math.max(tonumber(seen[1] or NOW_MS), tonumber(seen[2] or 0))
  ring_bell(NOW_MS - visited > TAKEOVER_MS and '*' or domain)
end
-- One who serves these domains (`gpu rag`, or `*`) is there. Returns them as a set.
local function visit(served)
  local row, set = {}, {}
  for domain in string.gmatch(served, '%S+') do
    row[#row + 1], row[#row + 2] = NOW_MS, domain
    set[domain] = true
  end
  redis.call('ZADD', K.domains(), unpack(row))
  return set
end
