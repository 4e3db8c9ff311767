--[[ A follower takes Modal calls that are due to be looked at. Its claim is a lease; when it dies they fall due again.
a: limit, lease_ms
-> claimed, calls = [{job, call_id, spawned_ms, call_deadline_ms}] ]]
work_may_end()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('calls:claimed'), '-inf', whole(now_ms), 'LIMIT', 0, 500)) do
  redis.call('ZADD', K('calls:due'), whole(now_ms), id)
  redis.call('ZREM', K('calls:claimed'), id)
end
local calls = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('calls:due'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  local job = load(id)
  if job and job.pool == 'modal' and (job.state == 'running' or job.state == 'delivering') then
    redis.call('ZADD', K('calls:claimed'), whole(now_ms + a.lease_ms), id)
    local at = redis.call('HMGET', attempt_key(id, job.attempt), 'spawned_ms', 'call_deadline_ms')
    calls[#calls + 1] = { job = job, spawned_ms = tonumber(at[1]), call_deadline_ms = tonumber(at[2]) }
  end
  redis.call('ZREM', K('calls:due'), id)
end
return reply({ outcome = 'claimed', calls = calls })
