--[[ A live Modal attempt costs more than was set aside for it: set aside more, if every dollar cap allows it.
needs: money
a: id, attempt, reserve_usd_micros (the new whole; a lower one changes nothing)
-> topped_up (reserved_usd_micros) | refused (reason; nothing changed) | stale ]]
work_may_end()
local job, n = load(a.id), whole(a.attempt)
local live = job and job.attempt == n and job.pool == 'modal'
  and (job.state == 'placed' or job.state == 'running' or job.state == 'delivering')
if not live then return reply({ outcome = 'stale' }) end
limits_are_filled()
local member = a.id .. ':' .. n
local has = tonumber(redis.call('ZSCORE', K('reservations'), member) or '0')
if a.reserve_usd_micros <= has then return reply({ outcome = 'topped_up', reserved_usd_micros = has }) end
local reason, ended = dollar_refusal(job, a.reserve_usd_micros - has)
if reason then
  say_ended(ended)
  count('top_ups_total', 'kind=' .. job.kind .. '|outcome=' .. reason)
  return reply({ outcome = 'refused', reason = reason })
end
reserve(member, job, a.reserve_usd_micros)
redis.call('HSET', attempt_key(a.id, n), 'reserved_usd_micros', whole(a.reserve_usd_micros))
count('top_ups_total', 'kind=' .. job.kind .. '|outcome=topped_up')
return reply({ outcome = 'topped_up', reserved_usd_micros = a.reserve_usd_micros })
