--[[ The operator's hand on spilling: read it, or set it.
a: mode? (auto|on|off), who, why, for_ms? (absent: until it is set again)
-> override (mode, and if it is not auto: who, why, at_ms, until_ms?) ]]
if not is_null(a.mode) then
  redis.call('DEL', K('override'))
  local until_ms = not is_null(a.for_ms) and whole(now_ms + a.for_ms) or nil
  redis.call('HSET', K('override'), 'mode', a.mode, 'who', a.who, 'why', a.why, 'at_ms', whole(now_ms))
  if until_ms then redis.call('HSET', K('override'), 'until_ms', until_ms) end
  count('spill_overrides_total', 'mode=' .. a.mode)
  redis.call('XADD', K('events'), 'MAXLEN', '~', a.events_kept, '*', 'event', 'spill.override', 'id', '', 'kind', '',
    'tenant', '', 'state', '', 'attempt', '0', 'pool', 'modal', 'gpu', '',
    'detail', a.mode .. (until_ms and ' until ' .. until_ms or '') .. ' by ' .. a.who .. ': ' .. a.why)
end
local got = redis.call('HMGET', K('override'), 'mode', 'who', 'why', 'at_ms', 'until_ms')
local over = got[5] and tonumber(got[5]) <= now_ms
if not got[1] or over then return reply({ outcome = 'override', mode = 'auto' }) end
return reply({ outcome = 'override', mode = got[1], who = got[2], why = got[3], at_ms = tonumber(got[4]),
  until_ms = tonumber(got[5] or nil) })
