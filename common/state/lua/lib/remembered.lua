-- What follows from a text alone, kept from call to call; forgotten when it is too much.
-- At most so many of it (1,000).
local function remembered(make, most)
  local known, count = {}, 0
  return function(text)
    local value = known[text]
    if value == nil then
      if count == (most or 1000) then known, count = {}, 0 end
      value, count = make(text), count + 1
      known[text] = value
    end
    return value
  end
end
