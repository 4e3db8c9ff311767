--[[ How the budgets stand, of one instant. Reads only.
a: month? (absent: this one)
-> budget (month, money, spend, hours, calls, limits, true_up) ]]
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
return reply({ outcome = 'budget', month = month, money = hash('money'), spend = hash('spend:' .. month), hours = hours,
  calls = redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels')), limits = hash('limits'),
  true_up = hash('true_up:' .. month) })
