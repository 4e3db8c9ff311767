--[[ A GPU slot takes the in-house attempt that comes next, under a lease.
a: kind, worker, lease_ms
-> started (job) | empty ]]
work_may_end()
while true do
  local popped = redis.call('ZPOPMIN', K('waiting:inhouse:' .. a.kind), 1)
  if #popped == 0 then return reply({ outcome = 'empty' }) end
  local job = load(popped[1])
  if job and job.state == 'placed' and job.pool == 'inhouse' then
    redis.call('HSET', attempt_key(job.id, job.attempt), 'worker', a.worker, 'started_ms', whole(now_ms))
    local err = transition(job, 'running', { worker = a.worker, started_ms = now_ms }, a.worker)
    if err then return err end
    redis.call('ZADD', K('leases'), whole(now_ms + a.lease_ms), job.id)
    return reply({ outcome = 'started', job = job })
  end
end
