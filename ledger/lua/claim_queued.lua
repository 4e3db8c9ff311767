--[[ A dispatcher takes the queued jobs that come next, to decide about them. The claim is a lease: a dispatcher that
dies loses it, and the jobs join the queue again.
a: kind, limit, lease_ms
-> claimed, jobs = [{id, claim, ...}] ]]
local function rejoin(from)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K(from .. a.kind), '-inf', whole(now_ms), 'LIMIT', 0, 500)) do
    redis.call('ZREM', K(from .. a.kind), id)
    local job = load(id)
    if job and job.state == 'queued' then redis.call('ZADD', K('queued:' .. a.kind), whole(order_of(job)), id) end
  end
end
rejoin('delayed:')
rejoin('claimed:')
local popped = redis.call('ZPOPMIN', K('queued:' .. a.kind), a.limit)
local jobs = {}
for i = 1, #popped, 2 do
  local id = popped[i]
  local job = load(id)
  if job and job.state == 'queued' then
    job.claim = whole(redis.call('HINCRBY', job_key(id), 'claim', 1))
    redis.call('ZADD', K('claimed:' .. a.kind), whole(now_ms + a.lease_ms), id)
    jobs[#jobs + 1] = job
  end
end
return reply({ outcome = 'claimed', jobs = jobs })
