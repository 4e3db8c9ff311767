--[[ Money: what is set aside, what is spent, what burns at this moment, and the caps over all of it.
A script says what moves (reserve, book, burn); the sums are raised once, when it replies, so they change together.
Dollars are micro-dollars, rates nano-dollars a second; months and days are UTC. A `who` is {tenant, kind}.

Key map
  P:money            hash    reserved_usd_micros, and of these reserved:tenant:<t>, reserved:kind:<k>;
                             spent:<pool>:<YYYY-MM>;
                             what burns now: rate_nanos_per_s, gpus, and idle_free (containers that nobody is to take)
  P:spend:<YYYY-MM>  hash    <pool>:day:<YYYY-MM-DD> | :tenant:<t> | :kind:<k> | :class:<gpu> | :component:<c>: the
                             month's spending five times over, each time cut another way; kept for 14 months
  P:hours:<YYYY-MM>  hash    <YYYY-MM-DDTHH> -> what containers used in that hour, whenever it was booked; 14 months
  P:reservations     zset    what is set aside, score = micro-dollars: "<id>:<n>" for an attempt that is not settled,
                             "container:<id>" for the idle tail of a container
  P:reservations:check  zset "<id>:<n>" of P:reservations, score = when to check again that somebody will settle it
  P:caps             hash    <scope> -> the cap that the last placement was made under, 'none' if there was none
  P:stages           hash    <scope> -> "<period> <n>": the highest stage (ledger/stages.py) that a period has reached
  P:journal          stream  every movement of Modal's dollars: of, tenant, kind, reserved, spent (changes), at_ms;
                             a script's last line also rate, gpus, calls, idle (changes)
A scope is month, day, tenant:<t> or kind:<k>.
]]
local MONEY_KEPT_S = 14 * 31 * 86400
local RESERVATION_CHECK_MS = 60000
local moved = nil

local function moves()
  moved = moved or { money = {}, spend = {}, hours = {}, who = {}, rate = 0, gpus = 0, calls = 0, idle = 0 }
  return moved
end

local function add(sums, name, by) sums[name] = (sums[name] or 0) + by end

local function moves_of(who, of)
  local m, name = moves(), who.tenant .. '|' .. who.kind
  m.who[name] = m.who[name] or { tenant = who.tenant, kind = who.kind, of = of, reserved = 0, spent = 0,
    spent_this_month = 0, spent_today = 0 }
  return m.who[name]
end

-- What is set aside for a member is now so much; returns what it was.
local function reserve(member, who, usd_micros)
  local was = tonumber(redis.call('ZSCORE', K('reservations'), member) or '0')
  if usd_micros == was then return was end
  if usd_micros > 0 then
    redis.call('ZADD', K('reservations'), whole(usd_micros), member)
    if was == 0 and not string.find(member, '^container:') then
      redis.call('ZADD', K('reservations:check'), whole(now_ms + RESERVATION_CHECK_MS), member)
    end
  else
    redis.call('ZREM', K('reservations'), member)
    redis.call('ZREM', K('reservations:check'), member)
  end
  local mine = moves_of(who, member)
  mine.reserved = mine.reserved + usd_micros - was
  return was
end

-- So much was spent. `date` (YYYY-MM-DD) is given where that is not today; gpu is '' in-house.
local function book(pool, who, gpu, component, usd_micros, of, date)
  if usd_micros == 0 then return end
  date = date or date_of(now_ms)
  local m, month = moves(), string.sub(date, 1, 7)
  add(m.money, 'spent:' .. pool .. ':' .. month, usd_micros)
  m.spend[month] = m.spend[month] or {}
  local class = gpu ~= '' and gpu or 'inhouse'
  add(m.spend[month], pool .. ':day:' .. date, usd_micros)
  add(m.spend[month], pool .. ':tenant:' .. who.tenant, usd_micros)
  add(m.spend[month], pool .. ':kind:' .. who.kind, usd_micros)
  add(m.spend[month], pool .. ':class:' .. class, usd_micros)
  add(m.spend[month], pool .. ':component:' .. component, usd_micros)
  if pool == 'modal' then
    local mine = moves_of(who, of)
    mine.spent = mine.spent + usd_micros
    if month == month_of(now_ms) then mine.spent_this_month = mine.spent_this_month + usd_micros end
    if date == date_of(now_ms) then mine.spent_today = mine.spent_today + usd_micros end
  end
  if usd_micros > 0 and KINDS[who.kind] then
    count('cost_usd_micros_total', 'component=' .. component .. '|gpu=' .. class .. '|kind=' .. who.kind .. '|pool=' .. pool,
      usd_micros)
  end
end

-- Containers used so much between two instants: told to the hours that it fell into, for the true-up. Their clocks may
-- be wrong; nothing was used in the future.
local function tell_hours(from_ms, to_ms, usd_micros)
  if usd_micros == 0 then return end
  if to_ms > now_ms then from_ms, to_ms = from_ms - (to_ms - now_ms), now_ms end
  local hours, left, at = moves().hours, usd_micros, from_ms
  while left > 0 do
    local next_hour = (math.floor(at / 3600000) + 1) * 3600000
    local part = next_hour >= to_ms and left or math.min(left, math.floor(usd_micros * (next_hour - at) / (to_ms - from_ms)))
    add(hours, hour_of(at), part)
    left, at = left - part, next_hour
  end
end

-- More (or less) burns now: nano-dollars a second, GPUs, live attempts, idle containers that nobody is to take.
local function burn(rate, gpus, calls, idle)
  local m = moves()
  m.rate, m.gpus, m.calls, m.idle = m.rate + rate, m.gpus + gpus, m.calls + calls, m.idle + idle
end

local function scopes_of(tenants, kinds)
  local month, day = month_of(now_ms), date_of(now_ms)
  local scopes = {
    { name = 'month', label = 'month', period = month, reserved = 'reserved_usd_micros' },
    { name = 'day', label = 'day', period = day, reserved = 'reserved_usd_micros', spent = 'modal:day:' .. day },
  }
  for tenant in pairs(tenants) do
    scopes[#scopes + 1] = { name = 'tenant:' .. tenant, label = 'tenant', period = month,
      reserved = 'reserved:tenant:' .. tenant, spent = 'modal:tenant:' .. tenant }
  end
  for kind in pairs(kinds) do
    scopes[#scopes + 1] = { name = 'kind:' .. kind, label = 'kind', period = month,
      reserved = 'reserved:kind:' .. kind, spent = 'modal:kind:' .. kind }
  end
  -- Dollars in, two reads for all scopes. A month that a true-up has brought below zero buys nothing extra.
  local money, spend = { 'spent:modal:' .. month }, {}
  for i, scope in ipairs(scopes) do
    money[i + 1] = scope.reserved
    spend[i] = scope.spent or 'none'
  end
  money = redis.call('HMGET', K('money'), unpack(money))
  spend = redis.call('HMGET', K('spend:' .. month), unpack(spend))
  for i, scope in ipairs(scopes) do
    scope.reserved = tonumber(money[i + 1] or '0')
    scope.spent = tonumber((scope.label == 'month' and money[1] or spend[i]) or '0')
    scope.committed = math.max(0, scope.spent) + scope.reserved
  end
  return scopes
end

local function money_event(event, scope, detail)
  redis.call('XADD', K('events'), 'MAXLEN', '~', a.events_kept, '*', 'event', event, 'id', '', 'kind', '', 'tenant', '',
    'state', '', 'attempt', '0', 'pool', 'modal', 'gpu', '', 'detail', scope .. ': ' .. detail)
end

-- A scope has reached a stage: said once in its period. `known` is what P:stages says, if that was read already.
local function reach(scope, stage, known)
  known = known or redis.call('HGET', K('stages'), scope.name) or ''
  local period, reached = string.match(known, '^(%S+) (%d)$')
  if period == scope.period and tonumber(reached) >= stage or stage == 0 then return end
  redis.call('HSET', K('stages'), scope.name, scope.period .. ' ' .. whole(stage))
  count('money_stages_total', 'scope=' .. scope.label .. '|stage=' .. STAGES[stage])
  money_event('money.stage', scope.name, STAGES[stage] .. ' in ' .. scope.period)
end

-- Why so much more may not be set aside for a job, or nil. Below the drain priority less than the whole cap is there.
local function dollar_refusal(who, caps, more, priority)
  local scopes = scopes_of({ [who.tenant] = true }, { [who.kind] = true })
  for _, scope in ipairs(scopes) do
    local cap = caps[scope.label]
    if not is_null(cap) and scope.committed + more > cap then
      -- So near the cap, what does not fit is the end of it; far below, it was a large wish.
      if stage_of(scope.committed, cap, DRAIN_RATIO) >= STAGE_DRAIN then reach(scope, STAGE_STOP) end
      return scope.label .. '_budget'
    end
  end
  if not priority or priority >= caps.drain_priority then return nil end
  for _, scope in ipairs(scopes) do
    local cap = caps[scope.label]
    if not is_null(cap) and stage_of(scope.committed, cap, caps.drain_ratio) >= STAGE_DRAIN then
      return scope.label .. '_drain'
    end
  end
  return nil
end

-- The caps that apply to a job, of limits that name all tenants and kinds (ledger/decisions.py Limits.to_wire_whole).
local function caps_for(who, limits)
  local caps = {}
  for name, cap in pairs(limits) do caps[name] = cap end
  caps.tenant, caps.kind = limits.tenants[who.tenant] or limits.tenant_default, limits.kinds[who.kind]
  return caps
end

-- The caps in force are kept, so that what passes one later (a settlement above its reservation) is seen and said.
local function note_caps(who, caps)
  local now = { month = caps.month, day = caps.day, ['tenant:' .. who.tenant] = caps.tenant, ['kind:' .. who.kind] = caps.kind,
    hour_rate = caps.hour_rate, gpus = caps.gpus, containers = caps.containers, calls = caps.calls,
    drain_ratio = caps.drain_ratio }
  local names, flat = {}, {}
  for _, name in ipairs({ 'month', 'day', 'tenant:' .. who.tenant, 'kind:' .. who.kind, 'hour_rate', 'gpus', 'containers',
    'calls', 'drain_ratio' }) do names[#names + 1] = name end
  local was = redis.call('HMGET', K('caps'), unpack(names))
  for i, name in ipairs(names) do
    local text = is_null(now[name]) and 'none' or string.format('%.15g', now[name])
    if was[i] ~= text then
      flat[#flat + 1] = name
      flat[#flat + 1] = text
    end
  end
  if #flat > 0 then redis.call('HSET', K('caps'), unpack(flat)) end
end

-- After a movement: which caps it passed, and which stages were reached. before = committed - what moved.
local function watch_caps(m)
  local tenants, kinds, change = {}, {}, {}
  for _, mine in pairs(m.who) do
    tenants[mine.tenant], kinds[mine.kind] = true, true
    for _, name in ipairs({ 'month', 'day', 'tenant:' .. mine.tenant, 'kind:' .. mine.kind }) do
      change[name] = change[name] or { reserved = 0, spent = 0 }
      change[name].reserved = change[name].reserved + mine.reserved
      change[name].spent = change[name].spent + (name == 'day' and mine.spent_today or mine.spent_this_month)
    end
  end
  local scopes, names = scopes_of(tenants, kinds), { 'drain_ratio' }
  for i, scope in ipairs(scopes) do names[i + 1] = scope.name end
  local caps = redis.call('HMGET', K('caps'), unpack(names))
  names[1] = 'none'
  local stages = redis.call('HMGET', K('stages'), unpack(names))
  for i, scope in ipairs(scopes) do
    local cap = tonumber(caps[i + 1] or nil)
    if cap then
      local was = change[scope.name]
      local before = math.max(0, scope.spent - was.spent) + scope.reserved - was.reserved
      local over = math.max(0, scope.committed - cap) - math.max(0, before - cap)
      if over > 0 then
        count('overshoot_usd_micros_total', 'scope=' .. scope.label, over)
        money_event('money.overshoot', scope.name, 'passed by ' .. whole(over) .. ' micro-dollars more')
      end
      reach(scope, stage_of(scope.committed, cap, tonumber(caps[1] or nil) or 1), stages[i + 1] or '')
    end
  end
end

local function write_journal(m)
  local lines = {}
  for _, mine in pairs(m.who) do lines[#lines + 1] = mine end
  if #lines == 0 then lines[1] = { of = '', tenant = '', kind = '', reserved = 0, spent = 0 } end
  for i, mine in ipairs(lines) do
    local line = { 'of', mine.of or '', 'tenant', mine.tenant, 'kind', mine.kind, 'reserved', whole(mine.reserved),
      'spent', whole(mine.spent), 'at_ms', whole(now_ms) }
    if i == #lines then
      for _, name in ipairs({ 'rate', 'gpus', 'calls', 'idle' }) do
        line[#line + 1] = name
        line[#line + 1] = whole(m[name])
      end
    end
    redis.call('XADD', K('journal'), 'MAXLEN', '~', a.events_kept, '*', unpack(line))
  end
end

local function raise(key, sums)
  for name, by in pairs(sums) do
    if by ~= 0 then
      local now = redis.call('HINCRBY', key, name, whole(by))
      if now == by then redis.call('EXPIRE', key, MONEY_KEPT_S) end
    end
  end
end

-- Everything that a script has moved goes into the sums.
local function flush_money()
  local m = moved
  moved = nil
  if not m then return end
  for _, mine in pairs(m.who) do
    add(m.money, 'reserved_usd_micros', mine.reserved)
    add(m.money, 'reserved:tenant:' .. mine.tenant, mine.reserved)
    add(m.money, 'reserved:kind:' .. mine.kind, mine.reserved)
  end
  m.money.rate_nanos_per_s, m.money.gpus, m.money.idle_free = m.rate, m.gpus, m.idle
  for name, by in pairs(m.money) do
    if by ~= 0 and redis.call('HINCRBY', K('money'), name, whole(by)) == 0 then redis.call('HDEL', K('money'), name) end
  end
  for month, sums in pairs(m.spend) do raise(K('spend:' .. month), sums) end
  for hour, by in pairs(m.hours) do raise(K('hours:' .. string.sub(hour, 1, 7)), { [hour] = by }) end
  if next(m.who) then watch_caps(m) end
  if next(m.who) or m.rate ~= 0 or m.calls ~= 0 or m.idle ~= 0 then write_journal(m) end
end

local plain_reply = reply
reply = function(t)
  flush_money()
  return plain_reply(t)
end
