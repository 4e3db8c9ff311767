--[[ How the budgets stand, of one instant. Reads only.
a: month? (absent: this one)
-> budget (month, money, spend, hours, calls, stages, oldest? = {placed_ms, reserved_usd_micros, rate}, override_until_ms?,
   true_up) ]]
local function hash(name)
  local found, flat = {}, redis.call('HGETALL', K(name))
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end
local month = is_null(a.month) and month_of(now_ms) or a.month
local hours = {}
for back = 0, 24 do
  local hour = hour_of(now_ms - back * 3600000)
  hours[hour] = redis.call('HGET', K('hours:' .. string.sub(hour, 1, 7)), hour) or nil
end
local first, oldest = redis.call('ZRANGE', K('modal'), 0, 0, 'WITHSCORES'), nil
if first[1] then
  local n = redis.call('HGET', job_key(first[1]), 'attempt')
  local at = redis.call('HMGET', attempt_key(first[1], n or '0'), 'reserved_usd_micros', 'rate')
  oldest = { placed_ms = tonumber(first[2]), reserved_usd_micros = tonumber(at[1] or '0'), rate = tonumber(at[2] or '0') }
end
return reply({ outcome = 'budget', month = month, money = hash('money'), spend = hash('spend:' .. month), hours = hours,
  calls = redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels')), stages = hash('stages'), oldest = oldest,
  override_until_ms = tonumber(redis.call('HGET', K('override'), 'until_ms') or nil), true_up = hash('true_up:' .. month) })
