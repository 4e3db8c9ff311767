--[[ An overflow worker takes Modal attempts to spawn. This is the written intent: it stands before the call exists.
a: limit, lease_ms, worker
-> claimed, jobs ]]
work_may_end()
local popped = redis.call('ZPOPMIN', K('waiting:modal'), a.limit)
local jobs = {}
for i = 1, #popped, 2 do
  local job = load(popped[i])
  if job and job.state == 'placed' and job.pool == 'modal' then
    redis.call('HSET', attempt_key(job.id, job.attempt), 'worker', a.worker, 'spawn_intent_ms', whole(now_ms))
    redis.call('ZADD', K('leases'), whole(now_ms + a.lease_ms), job.id)
    redis.call('ZREM', K('nudges:overflow'), job.id)
    jobs[#jobs + 1] = job
  end
end
return reply({ outcome = 'claimed', jobs = jobs })
