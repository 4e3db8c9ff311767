--[[ Warm containers cost money while nothing runs in them. What the next while will cost is booked before it is spent,
if every dollar cap allows it, and, for those that a forecast wants, the day's own ceiling.
needs: money
Key map
  P:warm:kept       hash    "<kind>:<gpu>" -> how many are kept now
  P:warm:paid       hash    <YYYY-MM-DD> -> micro-dollars booked for forecasts on that day; the newest two days
a: kind, gpu, number, usd_micros, limits (Limits.to_wire_whole), ceiling_usd_micros? (absent: an operator's wish)
-> paid | refused (reason; nothing changed) ]]
work_may_end()
local who, today = { tenant = 'default', kind = a.kind }, date_of(now_ms)
if not is_null(a.ceiling_usd_micros) then
  local paid = tonumber(redis.call('HGET', K('warm:paid'), today) or '0')
  if paid + a.usd_micros > a.ceiling_usd_micros then return reply({ outcome = 'refused', reason = 'warm_ceiling' }) end
end
local reason = dollar_refusal(who, caps_for(who, a.limits), a.usd_micros)
if reason then return reply({ outcome = 'refused', reason = reason }) end
book('modal', who, a.gpu, 'warm', a.usd_micros, 'warm:' .. a.gpu)
tell_hours(now_ms, now_ms, a.usd_micros)
if not is_null(a.ceiling_usd_micros) then
  for _, day in ipairs(redis.call('HKEYS', K('warm:paid'))) do
    if day ~= today then redis.call('HDEL', K('warm:paid'), day) end
  end
  redis.call('HINCRBY', K('warm:paid'), today, whole(a.usd_micros))
end
return reply({ outcome = 'paid' })
