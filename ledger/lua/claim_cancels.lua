--[[ A follower takes Modal calls that must be stopped. Until it says `settled`, they fall due again.
a: limit, lease_ms
-> claimed, cancels = [{id, attempt, kind, call_id?, gpu, spawned_ms?, spawn_intent_ms?, call_deadline_ms?}] ]]
work_may_end()
local cancels = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', K('cancels'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  local id, n = string.match(member, '^(.*):(%d+)$')
  redis.call('ZADD', K('cancels'), whole(now_ms + a.lease_ms), member)
  local at = redis.call('HMGET', attempt_key(id, n), 'call_id', 'gpu', 'spawned_ms', 'spawn_intent_ms', 'call_deadline_ms',
    'kind')
  -- (The job's record may be unreadable; the attempt says of which kind it is.)
  local kind = at[6] or redis.pcall('HGET', job_key(id), 'kind')
  cancels[#cancels + 1] = { id = id, attempt = tonumber(n), kind = type(kind) == 'string' and kind or nil,
    call_id = at[1] or nil, gpu = at[2] or '', spawned_ms = tonumber(at[3] or nil), spawn_intent_ms = tonumber(at[4] or nil),
    call_deadline_ms = tonumber(at[5] or nil) }
end
return reply({ outcome = 'claimed', cancels = cancels })
