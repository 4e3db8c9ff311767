--[[ Money: what is set aside, what is spent, what burns at this moment, and the caps over all of it.
A script says what moves (reserve, book, burn); the sums are raised once, when it ends, so they change together.
ledger/scripts.py sees to that, whatever the script's end is.
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
  P:limits           hash    the limits in force, by name (ledger/limits.py): <scope>, hour_rate, tenant (of every tenant),
                             attempts, gpus, containers, drain_ratio, drain_priority -> a number, 'none' (no limit) or
                             'default' (of one tenant: what holds for every tenant). What is absent has its default.
                             filled_ms: when the environment of a process filled it last
  P:limits:history   list    every change of a limit, JSON: at_ms, name, was, now, who, why; oldest first, bounded
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

-- A limit from its text; nil: there is none.
local function limit_of(name, text)
  if text == 'none' then return nil end
  return tonumber(text or nil) or LIMIT_DEFAULTS[name]
end

-- Limits by name, several in one read.
local function limits_of(names)
  local got, limits = redis.call('HMGET', K('limits'), unpack(names)), {}
  for i, name in ipairs(names) do limits[name] = limit_of(name, got[i]) end
  return limits
end

-- Nothing is placed before the environment has filled what the ledger does not say: an empty ledger (a new one, or one
-- whose Redis was emptied under a running process) would place under the defaults. The caller fills, and asks again.
local function limits_are_filled()
  if redis.call('HEXISTS', K('limits'), 'filled_ms') == 0 then error({ err = 'LIMITS are not filled yet' }, 0) end
end

-- Each scope learns its cap; returns from which share of a cap on it drains, and below which priority.
local function add_caps(scopes)
  local names = { 'tenant', 'drain_ratio', 'drain_priority' }
  for _, scope in ipairs(scopes) do names[#names + 1] = scope.name end
  local got = redis.call('HMGET', K('limits'), unpack(names))
  for i, scope in ipairs(scopes) do
    local text = got[i + 3]
    if scope.label == 'tenant' and (not text or text == 'default') then text = got[1] end
    -- (What a true-up books is no tenant's and of no kind.)
    if scope.name ~= 'tenant:-' then scope.cap = limit_of(scope.name, text) end
  end
  return limit_of('drain_ratio', got[2]), limit_of('drain_priority', got[3])
end

-- The dollar budgets that tenants and kinds are in, with what is spent and reserved, and their caps.
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
  return scopes, add_caps(scopes)
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

-- Why so much more may not be set aside for somebody, or nil; and the scope that has ended with it, if it has. Reads only.
-- Below the drain priority less than the whole cap is there.
local function dollar_refusal(who, more, priority)
  local scopes, drain_ratio, drain_priority = scopes_of({ [who.tenant] = true }, { [who.kind] = true })
  for _, scope in ipairs(scopes) do
    if scope.cap and scope.committed + more > scope.cap then
      -- So near the cap, what does not fit is the end of it; far below, it was a large wish.
      local ended = stage_of(scope.committed, scope.cap, DRAIN_RATIO) >= STAGE_DRAIN
      return scope.label .. '_budget', ended and scope or nil
    end
  end
  if not priority or priority >= drain_priority then return nil end
  for _, scope in ipairs(scopes) do
    if scope.cap and stage_of(scope.committed, scope.cap, drain_ratio) >= STAGE_DRAIN then return scope.label .. '_drain' end
  end
  return nil
end

-- Somebody was refused: if a budget has ended with it, that is said.
local function say_ended(scope)
  if scope then reach(scope, STAGE_STOP) end
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
  local scopes, drain_ratio = scopes_of(tenants, kinds)
  local names = {}
  for i, scope in ipairs(scopes) do names[i] = scope.name end
  local stages = redis.call('HMGET', K('stages'), unpack(names))
  for i, scope in ipairs(scopes) do
    local cap = scope.cap
    if cap then
      local was = change[scope.name]
      local before = math.max(0, scope.spent - was.spent) + scope.reserved - was.reserved
      local over = math.max(0, scope.committed - cap) - math.max(0, before - cap)
      if over > 0 then
        count('overshoot_usd_micros_total', 'scope=' .. scope.label, over)
        money_event('money.overshoot', scope.name, 'passed by ' .. whole(over) .. ' micro-dollars more')
      end
      reach(scope, stage_of(scope.committed, cap, drain_ratio), stages[i] or '')
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
