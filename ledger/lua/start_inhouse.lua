--[[ A GPU slot takes the in-house attempt that comes next, under a lease.
a: kind, worker, holder (id of the nudge that its process took), lease_ms, usd_nanos_per_s (what the slot costs; 0: nothing)
-> started (job) | empty ]]
work_may_end()
must_be_numbers(a, { 'lease_ms', 'usd_nanos_per_s' })
while true do
  local id = redis.call('ZRANGE', K('waiting:inhouse:' .. a.kind), 0, 0)[1]
  if not id then return reply({ outcome = 'empty' }) end
  local job = load(id)
  if job and job.state == 'placed' and job.pool == 'inhouse' then
    redis.call('HSET', attempt_key(job.id, job.attempt), 'worker', a.worker, 'holder', a.holder,
      'started_ms', whole(now_ms), 'usd_nanos_per_s', whole(a.usd_nanos_per_s))
    transition(job, 'running', { worker = a.worker, started_ms = now_ms }, a.worker)
    redis.call('ZADD', K('leases'), whole(now_ms + a.lease_ms), job.id)
    return reply({ outcome = 'started', job = job })
  end
  redis.call('ZREM', K('waiting:inhouse:' .. a.kind), id)
end
