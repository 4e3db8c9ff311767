--[[ A call that had to be stopped is known to have ended: book its cost and forget it.
needs: settling
a: id, attempt, cost_usd_micros, usage?
-> settled | unknown ]]
work_may_end()
local job = load(a.id)
must_be_usage(a)
redis.call('ZREM', K('cancels'), a.id .. ':' .. whole(a.attempt))
if not job then return reply({ outcome = 'unknown' }) end
local n = whole(a.attempt)
local before = tonumber(redis.call('HGET', attempt_key(a.id, n), 'cost_usd_micros') or '0')
settle(job, n, a)
local cost = tonumber(redis.call('HGET', attempt_key(a.id, n), 'cost_usd_micros') or '0') - before
record_event(job, 'call.stopped', 'it cost ' .. whole(cost) .. ' usd_micros', n)
count('calls_stopped_total', 'kind=' .. job.kind)
return reply({ outcome = 'settled' })
