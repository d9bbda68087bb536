-- The names of an execution's jobs, `room` of them at most, from the place `at` in its list on: the
-- number of an entry (from 0), and after a slash how many of its names went before (an entry may be
-- a whole chunk of a fan-out's children). Returns them, and the place to go on at; nil at the end.
local function names_from(x_id, at, room)
  local entry, skip = string.match(at, '^(%d+)/?(%d*)$')
  entry, skip = tonumber(entry), tonumber(skip) or 0
  local names, entries = {}, redis.call('LRANGE', K.jobs(x_id), entry, entry + room - 1)
  for i, one in ipairs(entries) do
    local fan_out, chunk = string.match(one, '^([^:]*):(%d+)$')
    local text = fan_out and (redis.call('HGET', K.pages(x_id, fan_out), chunk) or '') or one
    local seen = 0
    for name in string.gmatch(text, '%S+') do
      seen = seen + 1
      if seen > skip then
        if #names == room then return names, entry + i - 1 .. '/' .. seen - 1 end
        names[#names + 1] = name
      end
    end
    skip = 0
  end
  return names, #entries == room and entry + room or nil
end
