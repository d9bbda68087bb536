-- Numbers as text, each formatted once: a command formats a number that it is given anew.
local TEXT, texts = nil, 0
local formatted = { __index = function(known, number)
  if texts == 1000 then
    for one in pairs(known) do known[one] = nil end
    texts = 0
  end
  local text = string.format('%.15g', number)
  known[number], texts = text, texts + 1
  return text
end }
each_call(function() TEXT = TEXT or setmetatable({}, formatted) end) -- not there yet when the library is loaded
