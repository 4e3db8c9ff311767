--[[ Commit a decision about a claimed job, with its receipt. The limits are law here, whatever the policy said.
needs: settling, refusing
a: id, claim, decision = {to = inhouse|modal|hold|shed, ...}, receipt (JSON text), spill? = {active}
-> placed (attempt) | held | shed | refused (reason, nothing changed) | stale (nothing changed) ]]
local job = load(a.id)
if not job or job.state ~= 'queued' or job.claim ~= whole(a.claim) or not redis.call('ZSCORE', K('claimed:' .. job.kind), a.id) then
  return reply({ outcome = 'stale' })
end
local d = a.decision
if d.to == 'modal' then must_be_numbers(d, { 'reserve_usd_micros', 'usd_nanos_per_s' }) end
if d.to == 'hold' then must_be_numbers(d, { 'timeout_ms', 'again_in_ms' }) end

local warm_id, warm
if d.to == 'modal' then
  limits_are_filled()
  warm_id, warm = warm_container(job.kind, d.gpu)
  local reason, ended = modal_refusal(job, d, warm)
  if reason then
    say_ended(ended)
    count('spill_refused_total', 'kind=' .. job.kind .. '|reason=' .. reason)
    return reply({ outcome = 'refused', reason = reason })
  end
end
if not is_null(a.spill) then
  local was = redis.call('HGET', K('spill:' .. job.kind), 'active') or '0'
  local is = a.spill.active and '1' or '0'
  if was ~= is then
    redis.call('HSET', K('spill:' .. job.kind), 'active', is, 'since_ms', whole(now_ms))
    count('spill_transitions_total', 'kind=' .. job.kind .. '|to=' .. (a.spill.active and 'on' or 'off'))
  end
end
redis.call('RPUSH', K('receipts:' .. a.id), a.receipt)
if d.to == 'hold' or d.to == 'shed' then
  count('decisions_total', 'decision=' .. d.to .. '|kind=' .. job.kind .. '|rule=' .. a.rule)
end
if d.to == 'hold' then
  local until_ms = tonumber(job.hold_until_ms or whole(now_ms + d.timeout_ms))
  -- A job is not held past its own deadline: the answer would come too late to be of use.
  if job.deadline_ms then until_ms = math.min(until_ms, math.max(tonumber(job.deadline_ms), now_ms)) end
  transition(job, 'held', { held_reason = d.reason, hold_until_ms = until_ms,
    held_since_ms = tonumber(job.held_since_ms or now_ms),
    next_check_ms = math.min(now_ms + d.again_in_ms, until_ms) }, d.reason)
  return reply({ outcome = 'held' })
elseif d.to == 'shed' then
  transition(job, 'failed', { error_code = d.code, error_message = d.message }, d.code)
  return reply({ outcome = 'shed' })
end
local n = whole(tonumber(job.attempt) + 1)
local member = a.id .. ':' .. n
local attempt = { 'pool', d.to, 'placed_ms', whole(now_ms), 'reserved_usd_micros', '0' }
if d.to == 'modal' then
  attempt[6] = whole(d.reserve_usd_micros)
  for name, value in pairs({ gpu = d.gpu, tenant = job.tenant, kind = job.kind, rate = whole(d.usd_nanos_per_s),
    first_reserved_usd_micros = attempt[6], warm = warm_id }) do
    attempt[#attempt + 1] = name
    attempt[#attempt + 1] = value
  end
  reserve(member, job, d.reserve_usd_micros)
  if warm then promise(warm_id, warm, member) end
  attempt_burns(job.kind, d.gpu, d.usd_nanos_per_s, 1, true)
end
redis.call('HSET', attempt_key(a.id, n), unpack(attempt))
transition(job, 'placed', { attempt = n, pool = d.to, gpu = d.gpu or cjson.null, progress = 0,
  held_reason = cjson.null, held_since_ms = cjson.null, hold_until_ms = cjson.null, next_check_ms = cjson.null }, a.rule)
return reply({ outcome = 'placed', attempt = tonumber(n) })
