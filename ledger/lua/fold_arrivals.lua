--[[ What came in each hour of the week, smoothed over the weeks: the hours that are over and not folded yet are folded.
Key map
  P:arrivals:<kind>  hash    <hour of the week, 0 to 167; 0 is Monday 00 UTC> -> jobs in that hour, smoothed;
                             folded_ms: the start of the first hour that is not folded yet
a: kind, keep (share of the old value), hours (how far back at most)
-> folded, slots = {hour: jobs}, mean_run_s? (of all ends so far), mean_cold_starts_s = {gpu: seconds} ]]
work_may_end()
local HOUR, key = 3600000, K('arrivals:' .. a.kind)
local this_hour_ms = now_ms - now_ms % HOUR
local from_ms = tonumber(redis.call('HGET', key, 'folded_ms') or nil)
from_ms = math.max(from_ms or 0, this_hour_ms - a.hours * HOUR)
while from_ms < this_hour_ms do
  local number = redis.call('ZCOUNT', K('jobs:' .. a.kind), whole(from_ms), '(' .. whole(from_ms + HOUR))
  -- 1970-01-01 was a Thursday: day 3 of a week that begins on Monday.
  local slot = whole((math.floor(from_ms / HOUR) + 72) % 168)
  local was = tonumber(redis.call('HGET', key, slot) or nil)
  local is = was and was * a.keep + number * (1 - a.keep) or number
  redis.call('HSET', key, slot, string.format('%.3f', is))
  from_ms = from_ms + HOUR
end
redis.call('HSET', key, 'folded_ms', whole(this_hour_ms))
local slots, flat = {}, redis.call('HGETALL', key)
for i = 1, #flat, 2 do
  if flat[i] ~= 'folded_ms' then slots[flat[i]] = tonumber(flat[i + 1]) end
end
-- Means of histograms: of what runs, and of the cold starts of each GPU class.
local sums = { run = { sum = 0, count = 0 } }
flat = redis.call('HGETALL', K('counters'))
for i = 1, #flat, 2 do
  local metric, rest = string.match(flat[i], '^([^|]+)|(.*)$')
  if (metric == 'job_run_seconds' or metric == 'cold_start_seconds') and string.find('|' .. rest, '|kind=' .. a.kind .. '|', 1, true)
      and not string.match(rest, '|job$') then
    local name = metric == 'job_run_seconds' and 'run' or string.match('|' .. rest, '|gpu=([^|]*)') or ''
    local of = sums[name] or { sum = 0, count = 0 }
    local is_sum = string.match(rest, '|sum$')
    of.sum = of.sum + (is_sum and tonumber(flat[i + 1]) / 1e6 or 0)
    of.count = of.count + (is_sum and 0 or tonumber(flat[i + 1]))
    sums[name] = of
  end
end
local function mean(of) return of.count > 0 and of.sum / of.count or nil end
local mean_run_s, cold_starts = mean(sums.run), {}
sums.run = nil
for gpu, of in pairs(sums) do cold_starts[gpu] = mean(of) end
return reply({ outcome = 'folded', slots = slots, mean_run_s = mean_run_s, mean_cold_starts_s = cold_starts })
