--[[ A call that had to be stopped is known to have ended: book its cost and forget it. The attempt says whose it was when
its job's record cannot be read.
needs: settling
a: id, attempt, cost_usd_micros, usage?
-> settled | unknown ]]
work_may_end()
must_be_usage(a)
local n = whole(a.attempt)
local job = load(a.id)
redis.call('ZREM', K('cancels'), a.id .. ':' .. n)
local who = job or owner_of_unreadable(a.id, n)
if not who then return reply({ outcome = 'unknown' }) end
local before = tonumber(redis.call('HGET', attempt_key(a.id, n), 'cost_usd_micros') or '0')
settle(who, n, a)
local cost = tonumber(redis.call('HGET', attempt_key(a.id, n), 'cost_usd_micros') or '0') - before
if job then record_event(job, 'call.stopped', 'it cost ' .. whole(cost) .. ' usd_micros', n) end
count('calls_stopped_total', 'kind=' .. who.kind)
return reply({ outcome = 'settled' })
