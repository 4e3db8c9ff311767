--[[ Warm containers cost money while nothing runs in them. What the next round will cost is booked before it is spent,
if every dollar cap allows it, and, for those that a forecast wants, the day's own ceiling. Two steps: `hold` asks, before
Modal is told, and counts them under the caps on what is alive (as many as fit); without it, what Modal keeps now is
counted whatever the caps say, and paid. Those that idle after a call have their tail set aside already, and are not paid
twice; what was paid for one that then works is not charged to its call again (_settling.lua).
needs: settling
Key map
  P:warm:kept       hash    "<kind>:<gpu>" -> how many Modal was told to keep
  P:warm:paid       hash    <YYYY-MM-DD> -> micro-dollars booked for forecasts on that day; the newest two days
a: kind, gpu, number (kept by Modal, those at work included), buffer (idle ones beside), usd_nanos_per_s, round_ms, hold,
   ceiling_usd_micros? (absent: an operator's wish)
-> held (number, buffer: what fits; cut_by?) | paid | refused (reason; nothing was booked, and with hold nothing changed) ]]
work_may_end()
local who, today = { tenant = 'default', kind = a.kind }, date_of(now_ms)
local by_forecast = not is_null(a.ceiling_usd_micros)
limits_are_filled()
must_be_numbers(a, { 'number', 'buffer', 'usd_nanos_per_s', 'round_ms' })

-- How many of so many idle ones fit under the caps on what is alive, and the cap that let no more in.
local function fitting(wanted)
  local was = warm_pool(a.kind, a.gpu) or { rate = 0, counted = 0 }
  local got = redis.call('HMGET', K('money'), 'rate_nanos_per_s', 'gpus', 'idle_free')
  local rate = tonumber(got[1] or '0') - was.counted * was.rate
  local gpus = tonumber(got[2] or '0') - was.counted * gpus_of(a.gpu)
  local alive = tonumber(got[3] or '0') - was.counted + redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels'))
  local caps, fits, cut_by = limits_of({ 'gpus', 'containers', 'hour_rate' }), wanted, nil
  local function at_most(number, reason)
    if math.max(0, number) < fits then fits, cut_by = math.max(0, number), reason end
  end
  if caps.gpus then at_most(math.floor((caps.gpus - gpus) / gpus_of(a.gpu)), 'gpus_at_cap') end
  if caps.containers then at_most(caps.containers - alive, 'containers_at_cap') end
  while caps.hour_rate and fits > 0 and (rate + fits * a.usd_nanos_per_s) * 3.6 > caps.hour_rate do
    at_most(fits - 1, 'hour_rate')
  end
  return fits, cut_by
end

local function cost_of(idle) return math.ceil(idle * a.usd_nanos_per_s * a.round_ms / 1e6) end

local function money_refusal(usd_micros)
  if usd_micros == 0 then return nil end
  local paid = by_forecast and tonumber(redis.call('HGET', K('warm:paid'), today) or '0')
  if paid and paid + usd_micros > a.ceiling_usd_micros then return 'warm_ceiling' end
  return dollar_refusal(who, usd_micros)
end

if a.hold then
  local wanted = warm_idle(a.kind, a.gpu, a.number, a.buffer)
  local fits, cut_by = fitting(wanted)
  -- What does not fit is taken off the buffer first.
  local of_buffer = math.min(a.buffer, wanted - fits)
  local number, buffer = a.number - (wanted - fits - of_buffer), a.buffer - of_buffer
  local reason, ended = number == 0 and cut_by or nil, nil
  if not reason then reason, ended = money_refusal(cost_of(fits)) end
  if reason then
    say_ended(ended)
    return reply({ outcome = 'refused', reason = reason })
  end
  keep_warm(a.kind, a.gpu, number, buffer, a.usd_nanos_per_s)
  return reply({ outcome = 'held', number = number, buffer = buffer, cut_by = cut_by })
end
local idle = keep_warm(a.kind, a.gpu, a.number, a.buffer, a.usd_nanos_per_s)
local usd_micros = cost_of(idle)
local reason, ended = money_refusal(usd_micros)
if reason then
  say_ended(ended)
  return reply({ outcome = 'refused', reason = reason })
end
book('modal', who, a.gpu, 'warm', usd_micros, 'warm:' .. a.gpu)
tell_hours(now_ms, now_ms, usd_micros)
pay_ahead(a.kind, a.gpu, idle, a.round_ms)
if by_forecast then
  for _, day in ipairs(redis.call('HKEYS', K('warm:paid'))) do
    if day ~= today then redis.call('HDEL', K('warm:paid'), day) end
  end
  redis.call('HINCRBY', K('warm:paid'), today, whole(usd_micros))
end
return reply({ outcome = 'paid' })
