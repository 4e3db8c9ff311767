--[[ Compare the sums with their parts: dollars, reservations, indexes, counters. Reads only.
needs: settling
a: kinds, limits? (ledger/limits.py Limits.to_wire)
-> audited, violations = [{invariant, id, what}] ]]
local violations = {}
local function say(invariant, id, what) violations[#violations + 1] = { invariant = invariant, id = id, what = what } end

local function equal(what, parts, sum)
  if parts ~= sum then say(4, '', what .. ': the parts add up to ' .. whole(parts) .. ', the sum says ' .. whole(sum)) end
end
local function sums_of(name)
  local sums, flat = {}, redis.call('HGETALL', K(name))
  for i = 1, #flat, 2 do sums[flat[i]] = tonumber(flat[i + 1]) end
  return sums
end
local money, month = sums_of('money'), month_of(now_ms)
local spend = sums_of('spend:' .. month)

-- What is set aside, whole and by tenant and kind, is what its parts are; each part is somebody's.
local parts = { reserved_usd_micros = 0 }
local members = redis.call('ZRANGE', K('reservations'), 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local id, n = string.match(members[i], '^(.*):(%d+)$')
  local who = nil
  if id then
    local at = redis.call('HMGET', attempt_key(id, n), 'settled', 'tenant', 'kind')
    if at[1] then say(4, id, 'attempt ' .. n .. ' is settled and still reserved') end
    who = { tenant = at[2] or '', kind = at[3] or '' }
  else
    local name = string.match(members[i], '^container:(.*)$')
    who = name and redis.call('ZSCORE', K('containers:idle'), name) and container(name)
    if not who then say(4, '', members[i] .. ' has a reservation that nobody will book') end
  end
  for _, name in ipairs(who and { 'reserved_usd_micros', 'reserved:tenant:' .. who.tenant, 'reserved:kind:' .. who.kind } or {}) do
    add(parts, name, tonumber(members[i + 1]))
  end
end
for name, sum in pairs(money) do
  if string.find(name, '^reserved') then equal(name, parts[name] or 0, sum) end
end
for name, part in pairs(parts) do
  if part ~= 0 and not money[name] then equal(name, part, 0) end
end

-- What burns now is what the attempts that are not settled burn, the idle containers that none of them is to take, and
-- those that are kept warm beside.
local burning, counted, live_by_class = { rate = 0, gpus = 0, idle = 0 }, {}, {}
local function count_attempt(id, n)
  if counted[id .. ':' .. n] then return end
  counted[id .. ':' .. n] = true
  local at = redis.call('HMGET', attempt_key(id, n), 'rate', 'gpu', 'kind', 'first_reserved_usd_micros')
  if at[1] then burning.rate, burning.gpus = burning.rate + tonumber(at[1]), burning.gpus + gpus_of(at[2]) end
  if at[1] and at[4] then add(live_by_class, at[3] .. ':' .. at[2], 1) end
end
for _, id in ipairs(redis.call('ZRANGE', K('modal'), 0, -1)) do count_attempt(id, redis.call('HGET', job_key(id), 'attempt') or '0') end
for _, member in ipairs(redis.call('ZRANGE', K('cancels'), 0, -1)) do
  local id, n = string.match(member, '^(.*):(%d+)$')
  count_attempt(id, n)
end
for _, id in ipairs(redis.call('ZRANGE', K('containers:idle'), 0, -1)) do
  local c = container(id)
  if not c then
    say(4, '', 'the idle container ' .. id .. ' has no record')
  elseif redis.call('ZSCORE', pool_key('free', c), id) then
    burning.rate, burning.gpus, burning.idle = burning.rate + c.rate, burning.gpus + gpus_of(c.gpu), burning.idle + 1
    if redis.call('HEXISTS', K('containers:promised'), id) == 1 then say(4, '', 'container ' .. id .. ' is free and promised') end
  elseif not redis.call('ZSCORE', pool_key('taken', c), id) then
    say(4, '', 'the idle container ' .. id .. ' is neither free nor taken')
  end
end
local known_live = sums_of('live:classes')
for class, number in pairs(live_by_class) do equal('live attempts of ' .. class, number, known_live[class] or 0) end
for class, number in pairs(known_live) do equal('live attempts of ' .. class, live_by_class[class] or 0, number) end
for _, class in ipairs(redis.call('HKEYS', K('warm:pools'))) do
  local kind, gpu = string.match(class, '^(%l+):(.*)$')
  local pool = warm_pool(kind, gpu)
  equal('warm containers of ' .. class, warm_idle(kind, gpu, pool.number, pool.buffer), pool.counted)
  burning.rate, burning.gpus = burning.rate + pool.counted * pool.rate, burning.gpus + pool.counted * gpus_of(gpu)
  burning.idle = burning.idle + pool.counted
end
equal('rate_nanos_per_s', burning.rate, money.rate_nanos_per_s or 0)
equal('gpus', burning.gpus, money.gpus or 0)
equal('idle_free', burning.idle, money.idle_free or 0)

-- The month's book says the same whichever way it is cut.
for _, pool in ipairs({ 'modal', 'inhouse' }) do
  local cuts = { day = 0, tenant = 0, kind = 0, class = 0, component = 0 }
  for name, usd_micros in pairs(spend) do
    local of, cut = string.match(name, '^(%l+):(%l+):')
    if of == pool then add(cuts, cut, usd_micros) end
  end
  for cut, sum in pairs(cuts) do equal('spent on ' .. pool .. ' by ' .. cut, sum, money['spent:' .. pool .. ':' .. month] or 0) end
end

local alive = redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels'))
local function within(what, is, cap)
  if not is_null(cap) and is > cap then say(4, '', what .. ' is ' .. whole(is) .. ', the cap is ' .. whole(cap)) end
end
local function committed(what, spent, set_aside, cap)
  within('spent + reserved of ' .. what .. ' in micro-dollars', math.max(0, spent or 0) + (set_aside or 0), cap)
end
if not is_null(a.limits) then
  local caps = a.limits
  committed('the month', money['spent:modal:' .. month], money.reserved_usd_micros, caps.month)
  committed('the day', spend['modal:day:' .. date_of(now_ms)], money.reserved_usd_micros, caps.day)
  local seen = {}
  for _, sums in ipairs({ money, spend }) do
    for name in pairs(sums) do
      local scope, label = string.match(name, '^%l+:(%l+):(.*)$')
      if (scope == 'tenant' or scope == 'kind') and label ~= '-' then seen[scope .. ':' .. label] = { scope, label } end
    end
  end
  for name, one in pairs(seen) do
    local cap = one[1] == 'kind' and caps.kinds[one[2]] or (one[1] == 'tenant' and (caps.tenants[one[2]] or caps.tenant_default)) or nil
    committed(name, spend['modal:' .. name], money['reserved:' .. name], cap)
  end
  within('the rate in micro-dollars an hour', (money.rate_nanos_per_s or 0) * 3.6, caps.hour_rate)
  within('the number of GPUs', money.gpus or 0, caps.gpus)
  within('the number of containers', alive + (money.idle_free or 0), caps.containers)
  within('the number of live Modal attempts', alive, caps.attempts)
end
for _, name in ipairs(working_indexes()) do
  for _, id in ipairs(redis.call('ZRANGE', K(name), 0, 9999)) do
    if redis.call('EXISTS', job_key(id)) == 0 then say(1, id, 'no such job, and still in ' .. name) end
  end
end
-- (What of the counters tells of ends: ledger/metrics.py.)
local ENDS = { jobs_total = true, job_completed = true, job_failed = true, job_cancelled = true }
local counters = {}
local flat = redis.call('HGETALL', K('counters'))
for i = 1, #flat, 2 do counters[flat[i]] = tonumber(flat[i + 1]) end
for _, kind in ipairs(a.kinds) do
  local ended, submitted = 0, 0
  for name, value in pairs(counters) do
    local of_kind = string.find(name, '|kind=' .. kind .. '|', 1, true)
    if of_kind and ENDS[string.match(name, '^[^|]*')] then ended = ended + value end
    if string.find(name, 'submitted_total|kind=' .. kind .. '|', 1, true) == 1 then submitted = submitted + value end
  end
  local retired = counters['retired_total|kind=' .. kind] or 0
  local done = redis.call('ZCARD', K('done:' .. kind))
  if ended ~= done + retired then
    say(7, '', kind .. ': ' .. ended .. ' ends were counted, ' .. done .. ' terminal jobs are kept and ' .. retired .. ' retired')
  end
  local kept = redis.call('ZCARD', K('jobs:' .. kind))
  if submitted ~= kept + retired then
    say(7, '', kind .. ': ' .. submitted .. ' submissions were counted, ' .. kept .. ' jobs are kept and ' .. retired .. ' retired')
  end
end
return reply({ outcome = 'audited', violations = violations })
