-- What follows from a text alone, kept from call to call; forgotten when it is too much.
local MOST = 1000
local function remembered(make)
  local known, count = {}, 0
  return function(text)
    local value = known[text]
    if value == nil then
      if count == MOST then known, count = {}, 0 end
      value, count = make(text), count + 1
      known[text] = value
    end
    return value
  end
end
