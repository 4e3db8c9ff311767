--[[ Warm containers cost money while nothing runs in them. What the next round will cost is booked before it is spent,
if every dollar cap allows it, and, for those that a forecast wants, the day's own ceiling. Those that idle after a call
have their tail set aside already, and are not paid twice; what was paid for one that then works is not charged to its
call again (_settling.lua).
needs: settling
Key map
  P:warm:kept       hash    "<kind>:<gpu>" -> how many are kept now
  P:warm:paid       hash    <YYYY-MM-DD> -> micro-dollars booked for forecasts on that day; the newest two days
a: kind, gpu, idle (kept ones in which nothing runs), usd_nanos_per_s, round_ms, limits (Limits.to_wire_whole),
   ceiling_usd_micros? (absent: an operator's wish)
-> paid | refused (reason; nothing changed) ]]
work_may_end()
local who, today = { tenant = 'default', kind = a.kind }, date_of(now_ms)
local idle = math.max(0, a.idle - redis.call('ZCARD', pool_key('free', a)))
local usd_micros = math.ceil(idle * a.usd_nanos_per_s * a.round_ms / 1e6)
if not is_null(a.ceiling_usd_micros) then
  local paid = tonumber(redis.call('HGET', K('warm:paid'), today) or '0')
  if paid + usd_micros > a.ceiling_usd_micros then return reply({ outcome = 'refused', reason = 'warm_ceiling' }) end
end
local reason = dollar_refusal(who, caps_for(who, a.limits), usd_micros)
if reason then return reply({ outcome = 'refused', reason = reason }) end
book('modal', who, a.gpu, 'warm', usd_micros, 'warm:' .. a.gpu)
tell_hours(now_ms, now_ms, usd_micros)
pay_ahead(a.kind, a.gpu, idle, a.round_ms)
if not is_null(a.ceiling_usd_micros) then
  for _, day in ipairs(redis.call('HKEYS', K('warm:paid'))) do
    if day ~= today then redis.call('HDEL', K('warm:paid'), day) end
  end
  redis.call('HINCRBY', K('warm:paid'), today, whole(usd_micros))
end
return reply({ outcome = 'paid' })
