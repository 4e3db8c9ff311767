--[[ Whether a hard limit would keep a job off Modal now: what `place` asks, of a job that is not there yet. Reads only.
needs: settling, refusing
a: tenant, kind, priority, decision (gpu, usd_nanos_per_s, reserve_usd_micros)
-> free | refused (reason) ]]
limits_are_filled()
local _, warm = warm_container(a.kind, a.decision.gpu)
local reason = modal_refusal({ tenant = a.tenant, kind = a.kind, priority = a.priority }, a.decision, warm)
if reason then return reply({ outcome = 'refused', reason = reason }) end
return reply({ outcome = 'free' })
