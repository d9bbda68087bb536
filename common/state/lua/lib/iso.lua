-- requires: now remembered
-- Milliseconds since 1970, and microseconds beyond, as RQ writes dates:
-- 2026-11-22T10:53:00.123000Z.
-- Days to a civil date: Howard Hinnant, "chrono-compatible low-level date
-- algorithms", civil_from_days.
local iso_seconds, iso_text -- the last second that was written, and its text
local three_digits = remembered(function(number) return string.format('%03d', number) end)
local iso_known -- whole milliseconds
each_call(function() iso_known = {} end)
local function iso(ms, us)
  if not us then
    iso_known[ms] = iso_known[ms] or iso(ms, 0)
    return iso_known[ms]
  end
  local seconds = math.floor(ms / 1000)
  if seconds == iso_seconds then
    return iso_text .. three_digits(ms % 1000) .. three_digits(us) .. 'Z'
  end
  local days, rest = math.floor(seconds / 86400), seconds % 86400
  local z = days + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524)
    - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  iso_seconds = seconds
  iso_text = string.format('%04d-%02d-%02dT%02d:%02d:%02d.', year, month, day,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60)
  return iso(ms, us)
end
local function now_iso() return iso(NOW_MS) end
