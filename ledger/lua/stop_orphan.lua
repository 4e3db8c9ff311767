--[[ A call was found that the ledger does not know as its attempt's: it is to be stopped, and what it cost booked.
a: id, attempt, call_id, announced_ms
-> stopping | known (it is the attempt's own call) | unknown (no such job or attempt) ]]
work_may_end()
local n = whole(a.attempt)
local job = load(a.id)
if not job or redis.call('EXISTS', attempt_key(a.id, n)) == 0 then return reply({ outcome = 'unknown' }) end
if redis.call('HGET', attempt_key(a.id, n), 'call_id') == a.call_id then return reply({ outcome = 'known' }) end
-- An attempt that is being spawned at this moment is about to learn the id itself.
if job.attempt == n and job.state == 'placed' then return reply({ outcome = 'known' }) end
redis.call('HSET', attempt_key(a.id, n), 'call_id', a.call_id, 'spawned_ms', whole(a.announced_ms))
-- If it was let go as never known, its books are opened again for the cost; nothing is reserved for it any more.
redis.call('HDEL', attempt_key(a.id, n), 'settled')
must_stop(job, n)
count('orphans_total', 'kind=' .. job.kind)
record_event(job, 'call.orphan_found', a.call_id, n)
return reply({ outcome = 'stopping' })
