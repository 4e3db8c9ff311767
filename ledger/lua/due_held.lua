--[[ Held jobs whose time has come: back to the dispatchers, or shed when they were held for too long.
needs: refusals
a: limit
-> swept, requeued = [{id, kind}], shed = [{id, kind, reason}], errors = [{id, error}] (jobs that could not change their
   state) ]]
local requeued, shed, errors = {}, {}, {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('held'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  local job = load(id)
  if not job or job.state ~= 'held' then
    redis.call('ZREM', K('held'), id)
  elseif not tonumber(job.hold_until_ms) or not job.held_reason then
    quarantine(id, 'the field hold_until_ms or held_reason of a held job is missing or wrong')
  elseif tonumber(job.hold_until_ms) <= now_ms then
    -- Which cap spoke is in the message and the receipts; the outside is told that it was about dollars.
    local reason = ABOUT_DOLLARS[job.held_reason] and 'budget_exhausted' or 'overloaded'
    if job.deadline_ms and tonumber(job.deadline_ms) <= now_ms then reason = 'deadline_impossible' end
    local err = transition(job, 'failed', { error_code = reason,
      error_message = 'held until the end of its hold time: ' .. job.held_reason }, reason)
    if err then
      errors[#errors + 1] = { id = id, error = err.err }
    else
      shed[#shed + 1] = { id = id, kind = job.kind, reason = reason }
    end
  else
    local err = transition(job, 'queued', { not_before_ms = cjson.null }, 'held long enough to look again')
    if err then
      errors[#errors + 1] = { id = id, error = err.err }
    else
      requeued[#requeued + 1] = { id = id, kind = job.kind }
    end
  end
end
return reply({ outcome = 'swept', requeued = requeued, shed = shed, errors = errors })
