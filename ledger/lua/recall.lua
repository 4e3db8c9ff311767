--[[ A job that waits for an in-house slot is decided about again. One that has begun meanwhile is left alone.
needs: settling
a: id, attempt, reason
-> recalled | stale ]]
local job = load(a.id)
if not job or job.state ~= 'placed' or job.pool ~= 'inhouse' or job.attempt ~= whole(a.attempt) then
  return reply({ outcome = 'stale' })
end
end_attempt(job, 'recalled')
settle(job, job.attempt, { cost_usd_micros = 0 })
local err = transition(job, 'queued', { pool = cjson.null, gpu = cjson.null, worker = cjson.null,
  not_before_ms = cjson.null }, a.reason)
return err or reply({ outcome = 'recalled' })
