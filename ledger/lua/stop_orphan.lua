--[[ A call was found that the ledger does not know as its attempt's. If the attempt still waits for its spawner's
answer, this call is that answer: it is adopted. Else it is to be stopped, and what it cost booked.
a: id, attempt, call_id, announced_ms (by the container's clock), first_check_ms, deadline_ms
-> adopted | stopping | known (it is the attempt's own call; settled: its books are closed) |
   unknown (no such job or attempt) ]]
work_may_end()
must_be_numbers(a, { 'announced_ms', 'first_check_ms', 'deadline_ms' })
local n = whole(a.attempt)
local job = load(a.id)
local attempt = attempt_key(a.id, n)
if redis.call('EXISTS', attempt) == 0 then return reply({ outcome = 'unknown' }) end
local at = redis.call('HMGET', attempt, 'call_id', 'settled', 'spawn_intent_ms', 'placed_ms', 'kind')
if at[1] == a.call_id then return reply({ outcome = 'known', settled = at[2] and true or false }) end
-- The container's clock may be wrong; the call began after its spawn was intended, and before now.
local earliest_ms = tonumber(at[3] or at[4] or whole(now_ms))
local began_ms = math.max(earliest_ms, math.min(a.announced_ms, now_ms))
if job and job.attempt == n and job.state == 'placed' and job.pool == 'modal' and at[3] then
  redis.call('HSET', attempt, 'call_id', a.call_id, 'spawned_ms', whole(earliest_ms), 'begun_ms', whole(began_ms),
    'call_deadline_ms', whole(now_ms + a.deadline_ms))
  count('orphans_total', 'kind=' .. job.kind .. '|outcome=adopted')
  transition(job, 'running', { call_id = a.call_id, started_ms = now_ms }, a.call_id)
  record_event(job, 'call.adopted', a.call_id, n)
  redis.call('ZADD', K('calls:due'), whole(now_ms + a.first_check_ms), a.id)
  return reply({ outcome = 'adopted' })
end
if job and job.attempt == n and (job.state == 'running' or job.state == 'delivering') then
  -- Two calls of one attempt: the one that announced itself first works, and the recorded one leaves by itself.
  redis.call('HSET', attempt, 'call_id', a.call_id)
  redis.call('HSET', job_key(a.id), 'call_id', a.call_id)
  count('orphans_total', 'kind=' .. job.kind .. '|outcome=adopted')
  record_event(job, 'call.adopted', a.call_id, n)
  return reply({ outcome = 'adopted' })
end
redis.call('HSET', attempt, 'call_id', a.call_id, 'spawned_ms', whole(began_ms))
-- If it was let go as never known, its books are opened again for the cost; nothing is reserved for it any more.
redis.call('HDEL', attempt, 'settled')
must_stop({ id = a.id }, n)
-- (A job whose record cannot be read has its attempt's record still.)
count('orphans_total', 'kind=' .. (job and job.kind or at[5] or 'unknown') .. '|outcome=stopped')
if job then record_event(job, 'call.orphan_found', a.call_id, n) end
return reply({ outcome = 'stopping' })
