--[[ A call that had to be stopped is known to have ended: book its cost and forget it.
a: id, attempt, cost_usd_micros, usage?
-> settled | unknown ]]
work_may_end()
local job = load(a.id)
redis.call('ZREM', K('cancels'), a.id .. ':' .. whole(a.attempt))
if not job then return reply({ outcome = 'unknown' }) end
if not redis.call('HGET', attempt_key(a.id, whole(a.attempt)), 'settled') then
  settle(job, whole(a.attempt), cost_of_end(job))
end
count('calls_stopped_total', 'kind=' .. job.kind)
return reply({ outcome = 'settled' })
