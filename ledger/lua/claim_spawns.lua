--[[ An overflow worker takes Modal attempts to spawn. This is the written intent: it stands before the call exists.
All overflow workers together stay below Modal's rate: each attempt taken costs a token of one shared bucket. While the
circuit breaker is open nothing is taken; half open, `limit` is the caller's to keep small.
a: limit, lease_ms, worker, rate = {per_s, burst}
-> claimed, jobs, phase (of the breaker), waiting (how many are left), wait_ms (until the next token), hints_ms? ]]
work_may_end()
local phase = redis.call('HGET', K('breaker'), 'phase') or 'closed'
local was = redis.call('HMGET', K('rate:spawn'), 'tokens', 'at_ms')
local idle_s = math.max(0, now_ms - tonumber(was[2] or whole(now_ms))) / 1000
local tokens = math.min(a.rate.burst, tonumber(was[1] or whole(a.rate.burst)) + idle_s * a.rate.per_s)
local limit = phase == 'open' and 0 or math.min(a.limit, math.floor(tokens))
local wait_ms = tokens < 1 and math.ceil((1 - tokens) * 1000 / a.rate.per_s) or 0
local jobs = {}
for _, id in ipairs(limit > 0 and redis.call('ZRANGE', K('waiting:modal'), 0, limit - 1) or {}) do
  local job = load(id)
  if job and job.state == 'placed' and job.pool == 'modal' then
    redis.call('HSET', attempt_key(job.id, job.attempt), 'worker', a.worker, 'spawn_intent_ms', whole(now_ms))
    redis.call('ZADD', K('leases'), whole(now_ms + a.lease_ms), job.id)
    redis.call('ZREM', K('nudges:overflow'), job.id)
    jobs[#jobs + 1] = job
  end
  redis.call('ZREM', K('waiting:modal'), id)
end
redis.call('HSET', K('rate:spawn'), 'tokens', string.format('%.3f', tokens - #jobs), 'at_ms', whole(now_ms))
return reply({ outcome = 'claimed', jobs = jobs, phase = phase, waiting = redis.call('ZCARD', K('waiting:modal')),
  wait_ms = wait_ms, hints_ms = tonumber(redis.call('HGET', K('hints'), 'last_ms') or nil) })
