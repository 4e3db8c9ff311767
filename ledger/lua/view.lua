--[[ One consistent picture of the cluster. Dead slots are forgotten on the way.
needs: money
a: kinds
-> view ]]
local kinds = {}
for _, kind in ipairs(a.kinds) do
  redis.call('ZREMRANGEBYSCORE', K('slots:' .. kind), '-inf', '(' .. whole(now_ms))
  local spill = redis.call('HMGET', K('spill:' .. kind), 'active', 'since_ms')
  local waiting = K('waiting:inhouse:' .. kind)
  local first = redis.call('ZRANGE', waiting, 0, 0)
  local since = first[1] and tonumber(redis.call('HGET', job_key(first[1]), 'created_ms') or now_ms) or now_ms
  kinds[kind] = {
    queued = redis.call('ZCARD', K('queued:' .. kind)) + redis.call('ZCARD', K('claimed:' .. kind))
      + redis.call('ZCARD', K('delayed:' .. kind)),
    waiting_inhouse = redis.call('ZCARD', waiting),
    active_inhouse = redis.call('ZCARD', K('active:inhouse:' .. kind)),
    live_slots = redis.call('ZCARD', K('slots:' .. kind)),
    oldest_waiting_ms = math.max(0, now_ms - since),
    spill_active = spill[1] == '1',
    spill_since_ms = tonumber(spill[2] or '0'),
  }
end
local stage, scopes, drain_ratio, drain_priority = 0, scopes_of({}, {})
for _, scope in ipairs(scopes) do
  if scope.cap then stage = math.max(stage, stage_of(scope.committed, scope.cap, drain_ratio)) end
end
local override = redis.call('HMGET', K('override'), 'mode', 'until_ms')
if not override[1] or (override[2] and tonumber(override[2]) <= now_ms) then override[1] = 'auto' end
return reply({ outcome = 'view', kinds = kinds,
  modal_attempts = redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels')),
  held = redis.call('ZCARD', K('held')),
  reserved_usd_micros = scopes[1].reserved, spent_usd_micros = scopes[1].spent, day_spent_usd_micros = scopes[2].spent,
  stage = stage, drain_priority = drain_priority, max_modal_attempts = limits_of({ 'attempts' }).attempts,
  override = override[1] })
