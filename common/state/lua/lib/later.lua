-- requires: event
-- Members that one command can add to a key, or take out of it, for many jobs, counts of hashes, and
-- events: collected, and written by `write_later` before the same script reads them, and at its end.
local later, counts
-- The dependent that the last step has queued, as the only job, where this script may go on to claim it: nothing of
-- that is written yet (`write_heir`, in queue.lua).
local heir, write_heir
each_call(function() later, counts, heir = {}, {}, nil end)
local function do_later(command, key, a, b)
  local by_key = later[command]
  if not by_key then
    by_key = {}
    later[command] = by_key
  end
  local one = by_key[key]
  if not one then
    one = { command, key, last = 2 }
    by_key[key] = one
  end
  local at = one.last + 1
  one[at] = a
  if b then
    at = at + 1
    one[at] = b
  end
  one.last = at
end
local function count_later(key, field, by)
  local fields = counts[key] or {}
  counts[key] = fields
  fields[field] = (fields[field] or 0) + by
end
local function write_later()
  if heir then write_heir() end
  write_events()
  for _, by_key in pairs(later) do
    for key, one in pairs(by_key) do
      by_key[key] = nil
      redis.call(unpack(one, 1, one.last))
    end
  end
  for key, fields in pairs(counts) do
    counts[key] = nil
    for field, by in pairs(fields) do
      if by ~= 0 then redis.call('HINCRBY', key, field, by) end
    end
  end
end
