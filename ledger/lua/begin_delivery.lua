--[[ The result is there; it is about to be put into S3. Asking again with the same attempt is fine (a follower died).
a: id, attempt
-> delivering | stale (state, attempt) ]]
work_may_end()
local job = load(a.id)
if not job or job.attempt ~= whole(a.attempt) then
  return reply({ outcome = 'stale', state = job and job.state or 'unknown', attempt = job and tonumber(job.attempt) or 0 })
end
if job.state == 'delivering' then return reply({ outcome = 'delivering' }) end
if job.state ~= 'running' then return reply({ outcome = 'stale', state = job.state, attempt = tonumber(job.attempt) }) end
local lease = redis.call('ZSCORE', K('leases'), a.id)
local due = redis.call('ZSCORE', K('calls:due'), a.id)
local claimed = redis.call('ZSCORE', K('calls:claimed'), a.id)
transition(job, 'delivering', { progress = 99 }, nil)
-- Whoever holds the attempt goes on holding it while it delivers.
if lease then redis.call('ZADD', K('leases'), lease, a.id) end
if due then redis.call('ZADD', K('calls:due'), due, a.id) end
if claimed then redis.call('ZADD', K('calls:claimed'), claimed, a.id) end
return reply({ outcome = 'delivering' })
