--[[ An overflow worker takes Modal attempts to spawn. This is the written intent: it stands before the call exists.
a: limit, lease_ms, worker
-> claimed, jobs ]]
work_may_end()
local jobs = {}
for _, id in ipairs(redis.call('ZRANGE', K('waiting:modal'), 0, a.limit - 1)) do
  local job = load(id)
  if job and job.state == 'placed' and job.pool == 'modal' then
    redis.call('HSET', attempt_key(job.id, job.attempt), 'worker', a.worker, 'spawn_intent_ms', whole(now_ms))
    redis.call('ZADD', K('leases'), whole(now_ms + a.lease_ms), job.id)
    redis.call('ZREM', K('nudges:overflow'), job.id)
    jobs[#jobs + 1] = job
  end
  redis.call('ZREM', K('waiting:modal'), id)
end
return reply({ outcome = 'claimed', jobs = jobs })
