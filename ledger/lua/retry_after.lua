--[[ What says when it makes sense to come back after a refusal (ledger/retry_after.py), of one instant. Reads only.
Of the live calls the oldest and the newest are looked at, so many of each: renders that end each minute are found
beside a training run that was placed long before them, and before one that was placed just now.
needs: money
a: tenant, kind (of who was refused; '' if that is not known), looked_at (of each end)
-> facts (calls = [{placed_ms, reserved_usd_micros, rate, tenant, kind}], stopping, idle_until_ms?, override_until_ms?,
   budgets = {scope label: {spent_usd_micros, cap_usd_micros?}}, drain_ratio) ]]
local calls, seen = {}, {}
local function look_at(found)
  for i = 1, #found, 2 do
    if not seen[found[i]] then
      seen[found[i]] = true
      local n = redis.call('HGET', job_key(found[i]), 'attempt') or '0'
      local at = redis.call('HMGET', attempt_key(found[i], n), 'reserved_usd_micros', 'rate', 'tenant', 'kind')
      calls[#calls + 1] = { tonumber(found[i + 1]), tonumber(at[1] or '0'), tonumber(at[2] or '0'), at[3] or '', at[4] or '' }
    end
  end
end
look_at(redis.call('ZRANGE', K('modal'), 0, a.looked_at - 1, 'WITHSCORES'))
look_at(redis.call('ZREVRANGE', K('modal'), 0, a.looked_at - 1, 'WITHSCORES'))

local scopes, drain_ratio = scopes_of({ [a.tenant] = true }, { [a.kind] = true })
local budgets = {}
for _, scope in ipairs(scopes) do
  budgets[scope.label] = { spent_usd_micros = scope.spent, cap_usd_micros = scope.cap }
end
return reply({ outcome = 'facts', calls = calls, stopping = redis.call('ZCARD', K('cancels')),
  idle_until_ms = tonumber(redis.call('ZRANGE', K('containers:idle'), 0, 0, 'WITHSCORES')[2] or nil),
  override_until_ms = tonumber(redis.call('HGET', K('override'), 'until_ms') or nil),
  budgets = budgets, drain_ratio = drain_ratio })
