--[[ A spawner that prepares a call for longer (a checkpoint goes to Modal first) keeps its claim on the attempt.
a: id, attempt, lease_ms
-> held | lost ]]
work_may_end()
local job = load(a.id)
if not job or job.attempt ~= whole(a.attempt) or job.state ~= 'placed' or job.pool ~= 'modal'
    or not redis.call('ZSCORE', K('leases'), a.id) then
  return reply({ outcome = 'lost' })
end
redis.call('ZADD', K('leases'), whole(now_ms + a.lease_ms), a.id)
return reply({ outcome = 'held' })
