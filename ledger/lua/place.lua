--[[ Commit a decision about a claimed job, with its receipt. The limits are law here, whatever the policy said.
a: id, claim, decision = {to = inhouse|modal|hold|shed, ...}, receipt (JSON text), limits, spill? = {active}
-> placed (attempt) | held | shed | refused (reason, nothing changed) | stale (nothing changed) ]]
local job = load(a.id)
if not job or job.state ~= 'queued' or job.claim ~= whole(a.claim) or not redis.call('ZSCORE', K('claimed:' .. job.kind), a.id) then
  return reply({ outcome = 'stale' })
end
local d = a.decision
if d.to == 'modal' then
  local money = redis.call('HMGET', K('money'), 'reserved_usd_micros', 'spent:modal:' .. month_of(now_ms))
  local committed = tonumber(money[1] or '0') + tonumber(money[2] or '0') + d.reserve_usd_micros
  if committed > a.limits.month_cap_usd_micros then
    count('spill_refused_total', 'kind=' .. job.kind .. '|reason=budget_exhausted')
    return reply({ outcome = 'refused', reason = 'budget_exhausted' })
  end
  if redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels')) >= a.limits.max_modal_attempts then
    count('spill_refused_total', 'kind=' .. job.kind .. '|reason=modal_calls_at_cap')
    return reply({ outcome = 'refused', reason = 'modal_calls_at_cap' })
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
count('decisions_total', 'decision=' .. d.to .. '|kind=' .. job.kind .. '|rule=' .. a.rule)
if d.to == 'hold' then
  local until_ms = tonumber(job.hold_until_ms or whole(now_ms + d.timeout_ms))
  -- A job is not held past its own deadline: the answer would come too late to be of use.
  if job.deadline_ms then until_ms = math.min(until_ms, math.max(tonumber(job.deadline_ms), now_ms)) end
  local err = transition(job, 'held', { held_reason = d.reason, hold_until_ms = until_ms,
    next_check_ms = math.min(now_ms + d.again_in_ms, until_ms) }, d.reason)
  return err or reply({ outcome = 'held' })
elseif d.to == 'shed' then
  count('shed_total', 'kind=' .. job.kind .. '|reason=' .. d.code)
  local err = transition(job, 'failed', { error_code = d.code, error_message = d.message }, d.code)
  return err or reply({ outcome = 'shed' })
end
local n = whole(tonumber(job.attempt) + 1)
local attempt = { 'pool', d.to, 'placed_ms', whole(now_ms), 'reserved_usd_micros', '0' }
if d.to == 'modal' then
  attempt[6] = whole(d.reserve_usd_micros)
  attempt[7] = 'gpu'
  attempt[8] = d.gpu
  redis.call('HINCRBY', K('money'), 'reserved_usd_micros', whole(d.reserve_usd_micros))
  redis.call('ZADD', K('reservations'), whole(d.reserve_usd_micros), a.id .. ':' .. n)
end
redis.call('HSET', attempt_key(a.id, n), unpack(attempt))
local err = transition(job, 'placed', { attempt = n, pool = d.to, gpu = d.gpu or cjson.null, progress = 0,
  held_reason = cjson.null, hold_until_ms = cjson.null, next_check_ms = cjson.null }, a.rule)
return err or reply({ outcome = 'placed', attempt = tonumber(n) })
