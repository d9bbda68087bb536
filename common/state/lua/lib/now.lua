-- The only clock: the server's. NOW_MS is the millisecond since 1970 at which
-- the script began, NOW_US what is beyond it; tests replace this part by a shifted one.
local NOW_MS, NOW_US
each_call(function()
  local time = redis.call('TIME')
  NOW_MS = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  NOW_US = tonumber(time[2]) % 1000
end)
