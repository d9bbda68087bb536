-- requires: keys now
-- Appends one transition to the stream of events: its name, then pairs.
local function event(name, ...)
  redis.call('XADD', K.events(), 'MAXLEN', '~', '100000', '*', 'event', name, ...)
end
