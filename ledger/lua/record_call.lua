--[[ The spawn answered: the call's id is known. If the attempt is not wanted any more, the call is marked to be stopped.
a: id, attempt, call_id, first_check_ms, deadline_ms (the call's own wall clock, from now)
-> recorded | unwanted (state, attempt) ]]
work_may_end()
must_be_numbers(a, { 'first_check_ms', 'deadline_ms' })
local n = whole(a.attempt)
local job = load(a.id)
local function answer(outcome)
  return reply({ outcome = outcome, state = job and job.state or 'unknown', attempt = job and tonumber(job.attempt) or 0 })
end
if job and job.attempt == n and not is_null(job.call_id) then
  -- The attempt runs by this very call (its answer came twice, or the sweep was faster), or by another one that had
  -- announced itself before; then this one finds that out, and leaves.
  return answer(job.call_id == a.call_id and 'recorded' or 'unwanted')
end
local attempt = attempt_key(a.id, n)
-- (The attempt of a job whose record cannot be read has a call to be stopped, too.)
local has_attempt = redis.call('EXISTS', attempt) == 1
if has_attempt then
  -- If the attempt was let go as one whose call was never known, its books are opened again for what this one costs.
  if redis.call('HGET', attempt, 'call_id') ~= a.call_id then redis.call('HDEL', attempt, 'settled') end
  redis.call('HSET', attempt, 'call_id', a.call_id, 'spawned_ms', whole(now_ms),
    'call_deadline_ms', whole(now_ms + a.deadline_ms))
end
if not job or job.attempt ~= n or job.state ~= 'placed' then
  if job or has_attempt then must_stop({ id = a.id }, n) end
  return answer('unwanted')
end
local intent_ms = tonumber(redis.call('HGET', attempt, 'spawn_intent_ms') or nil)
if intent_ms then observe('spawn_seconds', 'gpu=' .. (job.gpu or 'none') .. '|kind=' .. job.kind, (now_ms - intent_ms) / 1000) end
transition(job, 'running', { call_id = a.call_id, started_ms = now_ms }, a.call_id)
redis.call('ZADD', K('calls:due'), whole(now_ms + a.first_check_ms), a.id)
return answer('recorded')
