-- requires: now
-- Appends one transition to the stream of events: its name, then pairs. A script's first one
-- takes the oldest off.
local trimmed = false
local function event(name, ...)
  if trimmed then return redis.call('XADD', K.events(), '*', 'event', name, ...) end
  trimmed = true
  redis.call('XADD', K.events(), 'MAXLEN', '~', '100000', '*', 'event', name, ...)
end
