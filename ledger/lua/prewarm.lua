--[[ The operator's wish for warm containers: read what is wished, or wish for a kind and class (0 takes it back).
Key map
  P:prewarms  hash  "<kind>:<gpu>" -> {number, kind, gpu, who, why, at_ms, until_ms}; one that is over is forgotten
a: number?, kind, gpu, for_ms, who, why
-> prewarms = [{...}] ]]
if not is_null(a.number) then
  local name = a.kind .. ':' .. a.gpu
  if a.number > 0 then
    redis.call('HSET', K('prewarms'), name, cjson.encode({ number = a.number, kind = a.kind, gpu = a.gpu, who = a.who,
      why = a.why, at_ms = now_ms, until_ms = now_ms + a.for_ms }))
  else
    redis.call('HDEL', K('prewarms'), name)
  end
  redis.call('XADD', K('events'), 'MAXLEN', '~', a.events_kept, '*', 'event', 'modal.prewarm', 'id', '', 'kind', a.kind,
    'tenant', '', 'state', '', 'attempt', '0', 'pool', 'modal', 'gpu', a.gpu,
    'detail', whole(a.number) .. ' for ' .. whole(a.for_ms / 1000) .. ' s by ' .. a.who .. ': ' .. a.why)
end
local found = {}
local flat = redis.call('HGETALL', K('prewarms'))
for i = 1, #flat, 2 do
  local one = cjson.decode(flat[i + 1])
  if one.until_ms > now_ms then found[#found + 1] = one else redis.call('HDEL', K('prewarms'), flat[i]) end
end
return reply({ outcome = 'prewarms', prewarms = found })
