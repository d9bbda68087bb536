-- Numbers as text, each formatted once a script: a command formats a number that it is given anew.
local TEXT
local formatted = { __index = function(known, number)
  known[number] = string.format('%.15g', number)
  return known[number]
end }
each_call(function() TEXT = setmetatable({}, formatted) end)
