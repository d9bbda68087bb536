-- requires: iso
-- The attempts of a job that did not end well, one line of JSON each, the last ones.
local H = {}
local ATTEMPTS, MESSAGE = 20, 500
-- What stands for one character in the text of a JSON string, where it is no plain one.
local SPECIAL = { '^\\u[dD][89abAB]%x%x\\u[dD][c-fC-F]%x%x', '^\\u%x%x%x%x', '^\\.',
  '^[\192-\255][\128-\191]*', '^[\128-\191]' }

-- The text of a member of an error's JSON, as it is written there, cut to MESSAGE
-- characters. Within a JSON string every quote is escaped, so the name is found only
-- where it is one.
local function member(error, name)
  local _, before = string.find(error, '"' .. name .. '":%s*"')
  if not before then return '' end
  local at, left = before + 1, MESSAGE
  while left > 0 do
    local _, to = string.find(error, '^[^\\"\128-\255]+', at)
    for i = 1, to and 0 or #SPECIAL do
      _, to = string.find(error, SPECIAL[i], at)
      if to then break end
    end
    if not to then break end
    local plain = not string.find(error, '^[\\\128-\255]', at)
    local count = plain and math.min(to - at + 1, left) or 1
    at = plain and at + count or to + 1
    left = left - count
  end
  return string.sub(error, before + 1, at - 1)
end

-- `outcome` is failed, crashed, lost or stopped; `error` is a job's error (JSON).
function H.record(job, outcome, started_at, error)
  local key = K.history(job.execution, job.job)
  local line = '{"attempt": ' .. job.attempt .. ', "node": "' .. (job.worker_name or '')
    .. '", "outcome": "' .. outcome .. '", "started_at": "' .. (started_at or '')
    .. '", "ended_at": "' .. now_iso() .. '", "error": {"type": "' .. member(error, 'type')
    .. '", "message": "' .. member(error, 'message') .. '"}}'
  if redis.call('RPUSH', key, line) > ATTEMPTS then redis.call('LTRIM', key, -ATTEMPTS, -1) end
end
