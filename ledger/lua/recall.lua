--[[ A job that waits for an in-house slot is decided about again, because Modal should have it. One that has begun
meanwhile is left alone; so is one that a limit keeps off Modal, or it would be recalled for nothing again and again.
needs: settling, refusing
a: id, attempt, reason, decision (gpu, usd_nanos_per_s, reserve_usd_micros)
-> recalled | refused (reason) | stale ]]
local job = load(a.id)
if not job or job.state ~= 'placed' or job.pool ~= 'inhouse' or job.attempt ~= whole(a.attempt) then
  return reply({ outcome = 'stale' })
end
limits_are_filled()
must_be_legal(job, 'queued')
local _, warm = warm_container(job.kind, a.decision.gpu)
local refusal, ended = modal_refusal(job, a.decision, warm)
if refusal then
  say_ended(ended)
  return reply({ outcome = 'refused', reason = refusal })
end
end_attempt(job, 'recalled')
settle(job, job.attempt, { cost_usd_micros = 0 })
transition(job, 'queued', { pool = cjson.null, gpu = cjson.null, worker = cjson.null,
  not_before_ms = cjson.null }, a.reason)
return reply({ outcome = 'recalled' })
