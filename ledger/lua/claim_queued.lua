--[[ A dispatcher takes the queued jobs that come next, to decide about them. The claim is a lease: a dispatcher that
dies loses it, and the jobs join the queue again.
a: kind, limit, lease_ms
-> claimed, jobs = [{id, claim, ...}] ]]
local function rejoin(from)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', K(from .. a.kind), '-inf', whole(now_ms), 'LIMIT', 0, 500)) do
    local job = load(id)
    if job and job.state == 'queued' then redis.call('ZADD', K('queued:' .. a.kind), whole(order_of(job)), id) end
    redis.call('ZREM', K(from .. a.kind), id)
  end
end
rejoin('delayed:')
rejoin('claimed:')
-- A job joins its new index before it leaves the old one: should anything go wrong in between, it is in one of them.
local jobs = {}
for _, id in ipairs(redis.call('ZRANGE', K('queued:' .. a.kind), 0, a.limit - 1)) do
  local job = load(id)
  if job and job.state == 'queued' then
    redis.call('ZADD', K('claimed:' .. a.kind), whole(now_ms + a.lease_ms), id)
    job.claim = whole(redis.call('HINCRBY', job_key(id), 'claim', 1))
    jobs[#jobs + 1] = job
  end
  redis.call('ZREM', K('queued:' .. a.kind), id)
end
return reply({ outcome = 'claimed', jobs = jobs })
