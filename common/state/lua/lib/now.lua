-- The only clock: the server's. NOW_MS is the millisecond since 1970 at which
-- the script began; tests replace this part by a shifted one.
local NOW_MS
do
  local time = redis.call('TIME')
  NOW_MS = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
