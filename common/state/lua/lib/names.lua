-- The names of an execution's jobs, from the place `at` in its list on: `0`, or what this returned before.
-- An entry is a name, or `<fan-out>:<chunk>` for those of its children that stand in `pages`; a place is the
-- number of an entry, and after a slash how many of its names went before. Returns names, the place to go
-- on at (nil at the end), and how many chunks it looked into; with the names they are `room` at most.
local function names_from(x_id, at, room)
  local entry, skip = string.match(at, '^(%d+)/?(%d*)$')
  entry, skip = tonumber(entry), tonumber(skip) or 0
  local names, looked = {}, 0
  local entries = redis.call('LRANGE', K.jobs(x_id), entry, entry + room - 1)
  for i, one in ipairs(entries) do
    local text, seen = one, 0
    if string.find(one, ':', 1, true) then
      if #names + looked >= room then return names, entry + i - 1 .. '/' .. skip, looked end
      looked = looked + 1
      text = redis.call('HGET', K.pages(x_id), one) or ''
    end
    for name in string.gmatch(text, '%S+') do
      seen = seen + 1
      if seen > skip then
        if #names == room then return names, entry + i - 1 .. '/' .. seen - 1, looked end
        names[#names + 1] = name
      end
    end
    skip = 0
  end
  return names, #entries == room and tostring(entry + room) or nil, looked
end
