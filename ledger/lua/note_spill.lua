--[[ A policy with two thresholds changed its mind on a tick, not about a job.
a: kind, active, was_since_ms (what it was when the policy looked; another's change in between stands)
-> noted | stale ]]
local key = K('spill:' .. a.kind)
local was = redis.call('HMGET', key, 'active', 'since_ms')
if tonumber(was[2] or '0') ~= a.was_since_ms then return reply({ outcome = 'stale' }) end
local is = a.active and '1' or '0'
if (was[1] or '0') ~= is then
  redis.call('HSET', key, 'active', is, 'since_ms', whole(now_ms))
  count('spill_transitions_total', 'kind=' .. a.kind .. '|to=' .. (a.active and 'on' or 'off'))
end
return reply({ outcome = 'noted' })
