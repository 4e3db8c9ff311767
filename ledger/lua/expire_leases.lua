--[[ Attempts whose holder has not renewed its lease: its worker died, or the spawn's answer never came.
needs: settling
a: limit, max_attempts_by_kind, jitter, rules = {lease_lost, spawn_lost}
-> swept, jobs = [{id, attempt, kind, cause, outcome}], errors = [{id, error}] (jobs that could not change their state) ]]
work_may_end()
local swept, errors = {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('leases'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  redis.call('ZREM', K('leases'), id)
  local job = load(id)
  if job and (job.state == 'running' or job.state == 'delivering' or job.state == 'placed') then
    local n, pool = job.attempt, job.pool
    local cause = pool == 'modal' and 'spawn_lost' or 'lease_lost'
    -- A spawn without an answer may have made a call: it is kept as one to stop, and its reservation stands until then.
    if pool == 'modal' then must_stop(job, n) else settle(job, n, 0) end
    a.max_attempts = a.max_attempts_by_kind[job.kind]
    local outcome = fail_attempt(job, cause, 'the holder of attempt ' .. n .. ' did not renew its lease', a.rules[cause])
    if type(outcome) == 'table' then
      errors[#errors + 1] = { id = id, error = outcome.err }
    else
      swept[#swept + 1] = { id = id, attempt = tonumber(n), kind = job.kind, cause = cause, outcome = outcome }
    end
  end
end
return reply({ outcome = 'swept', jobs = swept, errors = errors })
