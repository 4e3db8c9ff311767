--[[ Accept a job, or give back the one that its idempotency key already stands for.
Without a key, a request that says that it was sent before (is_retry) gets the job of its first try: the tenant's newest
with this digest, within the window. One that does not say so is always a new job, so two equal wishes are two jobs.
a: id, kind, tenant, priority, burst, spec (JSON text), digest, source, first_digest (by the rule of older records),
   deadline_s?, idempotency_key?, idempotency_ttl_s, uses? (a train job whose model it uses: one of the same tenant),
   brief? (the spec as a listing shows it, if that is much shorter),
   quota (of the tenant: priority, burst, jobs?, spec_bytes?, jobs_per_minute?), quota_is_said (else the ledger's own comes
   first: P:quotas, tenant or * -> JSON), rate_burst_ms,
   is_retry, retry_window_s, traceparent? (where the caller's trace goes on)
P:open, P:open_jobs, P:open_bytes: see _lib.lua; P:rate:<tenant>: until when its rate is used up, milliseconds.
-> quota, what, retry_after_ms; created | existing | conflict, id; model_not_found (the same for another tenant's as for none) ]]
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
local quota = a.quota
if not a.quota_is_said then
  local kept = redis.call('HGET', K('quotas'), a.tenant) or redis.call('HGET', K('quotas'), '*')
  local readable, read = pcall(cjson.decode, kept or '')
  if readable and type(read) == 'table' then quota = read end
end
local function full(what, retry_after_ms)
  count('rejected_total', 'kind=' .. a.kind .. '|reason=tenant_' .. what)
  return reply({ outcome = 'quota', what = what, retry_after_ms = math.ceil(retry_after_ms) })
end
local open_jobs = tonumber(redis.call('HGET', K('open_jobs'), a.tenant) or '0')
if quota.jobs and open_jobs >= quota.jobs then return full('jobs', 10000) end
local open_bytes = tonumber(redis.call('HGET', K('open_bytes'), a.tenant) or '0')
if quota.spec_bytes and open_bytes + #a.spec > quota.spec_bytes then return full('spec_bytes', 10000) end
local used_until
if quota.jobs_per_minute then
  local each_ms = 60000 / quota.jobs_per_minute
  used_until = math.max(now_ms, tonumber(redis.call('GET', K('rate:' .. a.tenant)) or '0')) + each_ms
  local too_far = used_until - now_ms - math.max(each_ms, a.rate_burst_ms)
  if too_far > 0 then return full('jobs_per_minute', too_far) end
end
local AMOUNT = { never = 0, auto = 1, always = 2 }
if AMOUNT[quota.burst] and AMOUNT[a.burst] > AMOUNT[quota.burst] then a.burst = quota.burst end
if quota.priority and a.priority > quota.priority then a.priority = quota.priority end
local job = { id = a.id, kind = a.kind, tenant = a.tenant, priority = whole(a.priority), burst = a.burst, spec = a.spec,
  digest = a.digest, source = a.source, schema = whole(SCHEMA), state = 'queued', attempt = '0', claim = '0', progress = '0',
  created_ms = whole(now_ms), changed_ms = whole(now_ms) }
if not is_null(a.brief) then job.brief = a.brief end
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
redis.call('HSET', K('open'), a.id, #a.spec .. ' ' .. a.tenant)
redis.call('HINCRBY', K('open_jobs'), a.tenant, '1')
redis.call('HINCRBY', K('open_bytes'), a.tenant, #a.spec)
if used_until then
  redis.call('SET', K('rate:' .. a.tenant), string.format('%.3f', used_until), 'PX', math.ceil(used_until - now_ms) + 1000)
end
if idem then redis.call('SET', idem, a.id, 'EX', a.idempotency_ttl_s) end
if again then redis.call('SET', again, a.id, 'EX', a.retry_window_s) end
enter(job)
record_event(job, 'job.queued', a.source)
count('submitted_total', 'kind=' .. a.kind .. '|source=' .. a.source)
return reply({ outcome = 'created', id = a.id })
