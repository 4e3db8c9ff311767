--[[ Everything that is shown about the ledger, of one instant. Reads only, and never more than a bounded number of
entries of anything: as fast with a million jobs as with none.
needs: money
a: kinds, queues
-> measured ]]
local function size(name) return redis.call('ZCARD', K(name)) end
local function upto_now(name) return redis.call('ZCOUNT', K(name), '-inf', whole(now_ms)) end
local function age(ms) return ms and math.max(0, now_ms - ms) or 0 end

-- The age of whoever has waited longest in an index whose score is order_of: the first of each priority is looked at.
-- placed: an index with the time from which on it waits for this; without: since its acceptance.
local function oldest(name, placed)
  if size(name) == 0 then return 0 end
  local since = nil
  for rank = 0, 9 do
    local first = redis.call('ZRANGEBYSCORE', K(name), whole(rank * 1e13), '(' .. whole((rank + 1) * 1e13),
      'WITHSCORES', 'LIMIT', 0, 1)
    if first[2] then
      local from_ms = placed and tonumber(redis.call('ZSCORE', K(placed), first[1]) or nil) or tonumber(first[2]) - rank * 1e13
      if not since or from_ms < since then since = from_ms end
    end
  end
  return age(since)
end

-- The age of the first entry of an index whose score is a time; of one that is to come, 0.
local function first_age(name)
  local first = redis.call('ZRANGE', K(name), 0, 0, 'WITHSCORES')
  return age(first[2] and tonumber(first[2]))
end

local kinds = {}
for _, kind in ipairs(a.kinds) do
  local spill = redis.call('HMGET', K('spill:' .. kind), 'active', 'since_ms')
  kinds[kind] = {
    jobs = size('jobs:' .. kind),
    queued = size('queued:' .. kind),
    delayed = size('delayed:' .. kind),
    claimed = size('claimed:' .. kind),
    waiting_inhouse = size('waiting:inhouse:' .. kind),
    active_inhouse = size('active:inhouse:' .. kind),
    live_slots = redis.call('ZCOUNT', K('slots:' .. kind), whole(now_ms), '+inf'),
    oldest_queued_ms = oldest('queued:' .. kind),
    -- A pause and a claim have an end; whoever should have taken the job up then has not.
    oldest_delayed_ms = first_age('delayed:' .. kind),
    oldest_claimed_ms = first_age('claimed:' .. kind),
    oldest_waiting_ms = oldest('waiting:inhouse:' .. kind),
    oldest_active_ms = first_age('active:inhouse:' .. kind),
    oldest_held_ms = first_age('held:' .. kind),
    spill_active = spill[1] == '1',
    spill_since_ms = tonumber(spill[2] or '0'),
  }
end
-- Money under each cap, and what burns at this moment.
-- Tenants become labels only where an operator gave them a cap of their own: so there is a bounded number of them.
local tenants, of_kinds, measured = {}, {}, {}
for _, name in ipairs(redis.call('HKEYS', K('limits'))) do
  local tenant = string.match(name, '^tenant:(.*)$')
  if tenant then tenants[tenant] = true end
end
for _, kind in ipairs(a.kinds) do of_kinds[kind] = true end
for _, scope in ipairs((scopes_of(tenants, of_kinds))) do
  measured[scope.name] = { spent_usd_micros = scope.spent, reserved_usd_micros = scope.reserved, cap_usd_micros = scope.cap }
end
local burns = redis.call('HMGET', K('money'), 'rate_nanos_per_s', 'gpus', 'idle_free')

local breaker = redis.call('HMGET', K('breaker'), 'phase', 'reason')
local overdue_nudges = {}
for _, queue in ipairs(a.queues) do overdue_nudges[queue] = upto_now('nudges:' .. queue) end
local function whole_hash(name) return redis.call('HGETALL', K(name)) end
return reply({ outcome = 'measured', kinds = kinds, overdue_nudges = overdue_nudges,
  modal = {
    alive = size('modal'), waiting = size('waiting:modal'), due = size('calls:due'), claimed = size('calls:claimed'),
    stopping = size('cancels'), oldest_waiting_ms = oldest('waiting:modal', 'modal'), oldest_alive_ms = first_age('modal'),
    lag_ms = math.max(first_age('calls:due'), first_age('calls:claimed')),
  },
  breaker_phase = breaker[1] or 'closed', breaker_reason = breaker[2] or '',
  followers = redis.call('ZCOUNT', K('followers'), whole(now_ms), '+inf'),
  deletions = { s3 = size('deletions:s3'), volume = size('deletions:volume') },
  held = size('held'), expired_leases = upto_now('leases'), quarantined = redis.call('HLEN', K('quarantine')),
  idle_containers = size('containers:idle'), month = month_of(now_ms), clock_offset_ms = clock_offset_ms,
  date = date_of(now_ms), scopes = measured,
  burn = { usd_nanos_per_s = tonumber(burns[1] or '0'), gpus = tonumber(burns[2] or '0'),
    idle_containers = tonumber(burns[3] or '0') },
  counters = whole_hash('counters'),
  gauges = whole_hash('gauges') })
