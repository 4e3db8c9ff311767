--[[ The circuit breaker before Modal, shared by all overflow workers: read it, or replace it if nobody else did.
The machine itself is pure Python (workers/overflow/breaker.py); here is its memory. `place` and `claim_spawns` read
its phase, so while it is open nothing new is placed on Modal and nothing is spawned.
a: version? (what the caller had read), phase?, reason?, memory? (JSON text)
-> breaker (phase, reason, memory?, version) | stale (the same: somebody else was faster) ]]
local got = redis.call('HMGET', K('breaker'), 'phase', 'reason', 'memory', 'version')
local is = { phase = got[1] or 'closed', reason = got[2] or '', memory = got[3] or nil, version = tonumber(got[4] or '0') }
local function answer(outcome)
  return reply({ outcome = outcome, phase = is.phase, reason = is.reason, memory = is.memory, version = is.version })
end
if is_null(a.version) then return answer('breaker') end
if a.version ~= is.version then return answer('stale') end
if is.phase ~= a.phase then
  count('modal_breaker_transitions_total', 'reason=' .. (a.reason == '' and 'mended' or a.reason) .. '|to=' .. a.phase)
  redis.call('HSET', K('breaker'), 'since_ms', whole(now_ms))
end
redis.call('HSET', K('breaker'), 'phase', a.phase, 'reason', a.reason, 'memory', a.memory, 'version', whole(is.version + 1))
is.phase, is.reason, is.memory, is.version = a.phase, a.reason, a.memory, is.version + 1
return answer('breaker')
