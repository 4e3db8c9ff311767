--[[ A follower takes Modal calls that are due to be looked at. Its claim is a lease; when it dies they fall due again.
Only what a look needs is answered: whoever concludes a call reads its record.
a: limit, lease_ms
-> claimed, calls = [{id, attempt, kind, gpu, call_id, spawned_ms, call_deadline_ms, hinted_ms?, begun_ms?,
   said_ended_ms?, progress, reserved_usd_micros, usd_nanos_per_s}], in_flight (calls that anybody follows), next_ms (when the next one falls due; absent: none waits) ]]
work_may_end()
note_duty('follower')
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('calls:claimed'), '-inf', whole(now_ms), 'LIMIT', 0, 500)) do
  redis.call('ZADD', K('calls:due'), whole(now_ms), id)
  redis.call('ZREM', K('calls:claimed'), id)
end
local calls = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('calls:due'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  local job = load(id)
  if job and job.pool == 'modal' and (job.state == 'running' or job.state == 'delivering') then
    redis.call('ZADD', K('calls:claimed'), whole(now_ms + a.lease_ms), id)
    local at = redis.call('HMGET', attempt_key(id, job.attempt), 'spawned_ms', 'call_deadline_ms', 'hinted_ms',
      'begun_ms', 'said_ended_ms', 'reserved_usd_micros', 'rate')
    calls[#calls + 1] = { id = id, attempt = tonumber(job.attempt), kind = job.kind, gpu = job.gpu,
      call_id = job.call_id, state = job.state, progress = tonumber(job.progress or '0'),
      spawned_ms = tonumber(at[1] or nil) or now_ms, call_deadline_ms = tonumber(at[2] or nil) or now_ms,
      hinted_ms = tonumber(at[3] or nil), begun_ms = tonumber(at[4] or nil), said_ended_ms = tonumber(at[5] or nil),
      reserved_usd_micros = tonumber(at[6] or '0'), usd_nanos_per_s = tonumber(at[7] or '0') }
  end
  redis.call('ZREM', K('calls:due'), id)
end
local following = redis.call('ZRANGE', K('calls:due'), 0, 0, 'WITHSCORES')
return reply({ outcome = 'claimed', calls = calls, next_ms = tonumber(following[2] or nil),
  in_flight = redis.call('ZCARD', K('calls:due')) + redis.call('ZCARD', K('calls:claimed')) })
