--[[ A call that had to be stopped is known to have ended: book its cost and forget it.
needs: settling
a: id, attempt, cost_usd_micros, usage?
-> settled | unknown ]]
work_may_end()
local job = load(a.id)
redis.call('ZREM', K('cancels'), a.id .. ':' .. whole(a.attempt))
if not job then return reply({ outcome = 'unknown' }) end
settle(job, whole(a.attempt), a)
count('calls_stopped_total', 'kind=' .. job.kind)
return reply({ outcome = 'settled' })
