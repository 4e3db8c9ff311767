--[[ The spawn answered: the call's id is known. If the attempt is not wanted any more, the call is marked to be stopped.
a: id, attempt, call_id, first_check_ms, deadline_ms (the call's own wall clock, from now)
-> recorded | unwanted (state, attempt) ]]
work_may_end()
local job = load(a.id)
if job and redis.call('EXISTS', attempt_key(a.id, whole(a.attempt))) == 1 then
  redis.call('HSET', attempt_key(a.id, whole(a.attempt)), 'call_id', a.call_id, 'spawned_ms', whole(now_ms),
    'call_deadline_ms', whole(now_ms + a.deadline_ms))
end
if not job or job.attempt ~= whole(a.attempt) or job.state ~= 'placed' then
  if job and not (job.call_id == a.call_id) then must_stop(job, whole(a.attempt)) end
  return reply({ outcome = job and job.call_id == a.call_id and 'recorded' or 'unwanted',
    state = job and job.state or 'unknown', attempt = job and tonumber(job.attempt) or 0 })
end
local err = transition(job, 'running', { call_id = a.call_id, started_ms = now_ms }, a.call_id)
if err then return err end
redis.call('ZADD', K('calls:due'), whole(now_ms + a.first_check_ms), a.id)
return reply({ outcome = 'recorded' })
