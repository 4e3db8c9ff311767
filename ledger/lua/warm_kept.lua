--[[ How many containers are kept warm: read, or noted. Whoever has the duty next knows what to give back; what is counted
(warm_pay.lua) and was never noted, because somebody died on the way, is there with 0.
a: kind?, gpu?, number?
-> kept = ["<kind>:<gpu>=<number>"] ]]
work_may_end()
if not is_null(a.number) then
  local name = a.kind .. ':' .. a.gpu
  local was = tonumber(redis.call('HGET', K('warm:kept'), name) or '0')
  if a.number > 0 then
    redis.call('HSET', K('warm:kept'), name, whole(a.number))
  else
    redis.call('HDEL', K('warm:kept'), name)
  end
  if was ~= a.number then
    redis.call('XADD', K('events'), 'MAXLEN', '~', a.events_kept, '*', 'event', 'modal.warm', 'id', '', 'kind', a.kind,
      'tenant', '', 'state', '', 'attempt', '0', 'pool', 'modal', 'gpu', a.gpu,
      'detail', whole(was) .. ' to ' .. whole(a.number) .. ': ' .. a.why)
  end
end
local kept, flat = {}, redis.call('HGETALL', K('warm:kept'))
for i = 1, #flat, 2 do kept[#kept + 1] = flat[i] .. '=' .. flat[i + 1] end
for _, name in ipairs(redis.call('HKEYS', K('warm:pools'))) do
  if redis.call('HEXISTS', K('warm:kept'), name) == 0 then kept[#kept + 1] = name .. '=0' end
end
return reply({ outcome = 'kept', kept = kept })
