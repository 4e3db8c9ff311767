--[[ Accept a job, or give back the one that its idempotency key already stands for.
Without a key, a request that says that it was sent before (is_retry) gets the job of its first try: the tenant's newest
with this digest, within the window. One that does not say so is always a new job, so two equal wishes are two jobs.
a: id, kind, tenant, priority, burst, spec (JSON text), digest, source, first_digest (by the rule of older records),
   deadline_s?, idempotency_key?, idempotency_ttl_s, uses? (a train job whose model it uses: one of the same tenant),
   is_retry, retry_window_s, traceparent? (where the caller's trace goes on)
-> created | existing | conflict, id; model_not_found (the same for another tenant's as for none) ]]
local idem = not is_null(a.idempotency_key) and K('idempotency:' .. a.tenant .. ':' .. a.idempotency_key) or nil
local again = not idem and a.retry_window_s > 0 and K('retry:' .. a.tenant .. ':' .. a.digest) or nil
-- (A job that an older version accepted is found by the digest of that version.)
local again_first = again and K('retry:' .. a.tenant .. ':' .. a.first_digest)
local known = (idem and redis.call('GET', idem))
  or (again and a.is_retry and (redis.call('GET', again) or redis.call('GET', again_first)))
  or (redis.call('EXISTS', job_key(a.id)) == 1 and a.id) or nil
if known then
  local digest = redis.call('HGET', job_key(known), 'digest')
  if digest then
    return reply({ outcome = (digest == a.digest or digest == a.first_digest) and 'existing' or 'conflict', id = known })
  end
end
if not is_null(a.uses) then
  local used = redis.pcall('HMGET', job_key(a.uses), 'tenant', 'kind')
  if used.err or used[1] ~= a.tenant or used[2] ~= 'train' then return reply({ outcome = 'model_not_found' }) end
end
local job = { id = a.id, kind = a.kind, tenant = a.tenant, priority = whole(a.priority), burst = a.burst, spec = a.spec,
  digest = a.digest, source = a.source, schema = whole(SCHEMA), state = 'queued', attempt = '0', claim = '0', progress = '0',
  created_ms = whole(now_ms), changed_ms = whole(now_ms) }
if not is_null(a.traceparent) then job.traceparent = a.traceparent end
if not is_null(a.deadline_s) then job.deadline_ms = whole(now_ms + a.deadline_s * 1000) end
local flat = {}
for name, value in pairs(job) do
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end
redis.call('HSET', job_key(a.id), unpack(flat))
redis.call('ZADD', K('jobs:' .. a.kind), whole(now_ms), a.id)
redis.call('ZADD', K('tenant:' .. a.tenant .. ':' .. a.kind), whole(now_ms), a.id)
if idem then redis.call('SET', idem, a.id, 'EX', a.idempotency_ttl_s) end
if again then redis.call('SET', again, a.id, 'EX', a.retry_window_s) end
enter(job)
record_event(job, 'job.queued', a.source)
count('submitted_total', 'kind=' .. a.kind .. '|source=' .. a.source)
return reply({ outcome = 'created', id = a.id })
