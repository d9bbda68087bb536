-- requires: text remembered
-- Resources as text, `cpus=2 ram=1024`, and as tables by name. A tiny
-- tolerance keeps sums of fractions of a cpu from blocking a fit.
local A = {}
function A.parse(text)
  local amounts = {}
  for name, amount in string.gmatch(text or '', '([^= ]+)=([^ ]+)') do
    amounts[name] = tonumber(amount)
  end
  return amounts
end
A.read = remembered(A.parse) -- the same, of a text that comes again; not to be changed
function A.format(amounts)
  local names = {}
  for name, amount in pairs(amounts) do
    if amount > 1e-9 then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do
    names[i] = name .. '=' .. TEXT[amounts[name]]
  end
  return table.concat(names, ' ')
end
function A.add(amounts, more, sign)
  for name, amount in pairs(more) do
    amounts[name] = (amounts[name] or 0) + sign * amount
  end
end
function A.within(needs, free)
  for name, amount in pairs(needs) do
    if amount > (free[name] or 0) + 1e-9 then return false end
  end
  return true
end
