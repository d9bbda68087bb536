-- requires: now amounts later
-- Nodes as this script sees them, read once each. `used` counts what leases
-- took, slots among it; it is recomputed from the leases at each beat.
local N = {}
-- What nodes have that registered in the same words: tags, resources, and what jobs take of them (`charge`).
local offered = remembered(function(text)
  local tags, total, share = string.match(text, '^(.*)|(.*)|(.*)$')
  local offer = { tags = {}, total = A.parse(total) }
  for tag in string.gmatch(tags, '%S+') do offer.tags[tag] = true end
  offer.charge = remembered(function(needs)
    local amounts = A.parse(needs)
    amounts.cpus, amounts.slots = amounts.cpus or tonumber(share), 1
    return { amounts = amounts, text = A.format(amounts), fits = A.within(amounts, offer.total) }
  end, 50)
  return offer
end)
local function offer_of(tags, total, share)
  return offered((tags or '') .. '|' .. (total or '') .. '|' .. (share or '1'))
end
function N.get(id)
  local n = N.cache[id]
  if n ~= nil then return n end
  local v = redis.call('HMGET', K.node(id), 'incarnation', 'capabilities', 'resources', 'used',
    'timeout_ms', 'share', 'reserved', 'claim', 'verdicts', 'state', 'hostname', 'drain')
  n = { id = id, incarnation = v[1] or nil, offer = offer_of(v[2], v[3], v[6]), leases = {}, used = A.parse(v[4]),
    timeout_ms = tonumber(v[5] or redis.call('HGET', K.maintenance(), 'timeout_ms') or 3000), reserved = v[7] or nil,
    claim = v[8] or nil, verdicts = v[9] or '', state = v[10] or '', hostname = v[11] or '',
    drain = v[12], leases_key = K.node_leases(id) }
  n.total = n.offer.total
  N.cache[id] = n
  return n
end
-- The number of a claim of this incarnation; nil for a claim of another.
function N.turn(incarnation, claim)
  if string.sub(claim, 1, #incarnation) ~= incarnation then return nil end
  return tonumber(string.match(string.sub(claim, #incarnation + 1), '^%p(%d+)$'))
end
function N.has_tags(n, class)
  if class == 'any' then return true end
  for tag in string.gmatch(class, '[^+]+') do
    if not n.offer.tags[tag] then return false end
  end
  return true
end
-- What a job takes of a node: a slot, and its share of the cpus when it names none. And as text.
function N.charge(n, needs)
  local known = n.offer.charge(needs)
  return known.amounts, known.text
end
function N.free(n)
  local free = {}
  for name, amount in pairs(n.total) do free[name] = amount - (n.used[name] or 0) end
  return free
end
function N.could(n, class, needs)
  if not n.incarnation or not N.has_tags(n, class) then return false end
  return n.offer.charge(needs).fits
end
function N.save_used(n) redis.call('HSET', K.node(n.id), 'used', A.format(n.used)) end
-- What its leases take, counted anew.
function N.recount(n)
  write_later()
  local leases = redis.call('HGETALL', K.node_leases(n.id))
  n.used = {}
  for i = 2, #leases, 2 do
    A.add(n.used, A.parse(string.match(leases[i], '^%d+ %S+ %d+ ?(.*)$')), 1)
  end
  N.save_used(n)
end
-- Reads many leases at once, for `end_lease`.
function N.read_leases(n, ids)
  local leases = redis.call('HMGET', K.node_leases(n.id), unpack(ids))
  for i, id in ipairs(ids) do n.leases[id] = leases[i] end
end
local parsed_leases -- by their texts: those of riders that were claimed together are the same
each_call(function() parsed_leases = {} end)
-- Gives back what the lease of this token took: is it there, for the caller to delete? (A claim alone does not
-- tell: one that comes again when the node was forgotten meanwhile gives out a further attempt.)
function N.end_lease(n, job_id, attempt, claim)
  local lease = n.leases[job_id]
  if lease == nil then lease = redis.call('HGET', n.leases_key, job_id) end
  if not lease then return false end
  local is = parsed_leases[lease]
  if not is then
    local its_attempt, its_claim, needs = string.match(lease, '^(%d+) (%S+) %d+ ?(.*)$')
    is = { attempt = tonumber(its_attempt), claim = its_claim, amounts = needs ~= '' and A.read(needs) }
    parsed_leases[lease] = is
  end
  if is.attempt ~= attempt or is.claim ~= claim then return false end
  n.leases[job_id] = false
  if is.amounts then A.add(n.used, is.amounts, -1) end
  return true
end
function N.drop_lease(n, job_id, attempt, claim)
  if N.end_lease(n, job_id, attempt, claim) then do_later('HDEL', n.leases_key, job_id) end
end
-- Late long before its time-out: of the beats of one time-out (three or more) half are missing.
local function is_late(id, beat)
  local silent = NOW_MS - beat
  return silent > 1500 and silent > N.get(id).timeout_ms / 2
end
-- A node is heard. The first one after a time in which all were late gives the others a time-out
-- to come back as well: then it was the network between them and Redis that was away.
function N.heard(id)
  local last = redis.call('ZREVRANGE', K.nodes(), 0, 0, 'WITHSCORES')
  if last[1] and is_late(last[1], tonumber(last[2])) then
    redis.call('HSET', K.maintenance(), 'steady_since', NOW_MS)
  end
  redis.call('ZADD', K.nodes(), NOW_MS, id)
end
-- The cluster's upkeep (upkeep.lua) is done by whoever beats when it is due: when it was done last, since when
-- nobody was away, and which run of the server that was.
local UPKEEP_MS = 400
function N.last_upkeep()
  local v = redis.call('HMGET', K.maintenance(), 'at', 'steady_since', 'run_id')
  local at = tonumber(v[1] or 0)
  return { at = at, steady_since = tonumber(v[2] or 0), run_id = v[3],
    due = NOW_MS - at >= UPKEEP_MS or NOW_MS < at }
end
-- After a time in which nobody could beat, all count as alive for one time-out.
function N.alive_ids()
  if not N.alive then
    N.alive, N.late = {}, {}
    local steady_since = tonumber(redis.call('HGET', K.maintenance(), 'steady_since') or 0)
    local beats = redis.call('ZRANGE', K.nodes(), 0, -1, 'WITHSCORES')
    for i = 1, #beats, 2 do
      N.late[beats[i]] = is_late(beats[i], tonumber(beats[i + 1]))
      local heard = math.max(tonumber(beats[i + 1]), steady_since)
      if NOW_MS - heard <= N.get(beats[i]).timeout_ms then
        N.alive[#N.alive + 1] = beats[i]
      end
    end
  end
  return N.alive
end
-- This script has changed a node: what it has read of the nodes before is of no use.
local could_any_memo
each_call(function() N.cache, N.alive, N.late, could_any_memo = {}, nil, nil, {} end)
function N.see_anew(id) N.cache[id], N.alive, N.late, could_any_memo = nil, nil, nil, {} end
-- Could any live node ever run this? True while no node is alive: the first one has yet to come.
-- Or any but `except`, to which its work would go now: a node that is late may be as cut off as that.
function N.could_any(class, needs, except)
  if class == 'any' and needs == '' and not except then return true end
  local memo = class .. '|' .. needs .. '|' .. (except or '')
  if could_any_memo[memo] == nil then
    local alive, others = N.alive_ids(), 0
    could_any_memo[memo] = false
    for _, id in ipairs(alive) do
      if id ~= except and not (except and N.late[id]) then
        others = others + 1
        if N.could(N.get(id), class, needs) then
          could_any_memo[memo] = true
          break
        end
      end
    end
    if others == 0 and not except then could_any_memo[memo] = true end
  end
  return could_any_memo[memo]
end
