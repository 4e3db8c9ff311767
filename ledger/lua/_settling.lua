--[[ How attempts and containers come to dollars (ledger/containers.py says why).
needs: money
While a call runs, its attempt counts: its reservation, its rate, its GPUs. When it is settled, its container stays for
the idle window: its tail is reserved, and it counts as idle until a new attempt of the same kind and class is placed,
which is expected to take it. So one container is counted once, and one that was not taken after all counts again.

Key map
  P:containers                    hash    container id -> {kind, tenant, gpu, rate (nano-dollars a second), booked_ms,
                                          window_ms}: up to when it is paid for
  P:containers:idle               zset    containers that may be idle, score = when their tail is over
  P:containers:free:<kind>:<gpu>  zset    of these, those that no live attempt is expected to take, score = idle since
  P:containers:taken:<kind>:<gpu> zset    of these, the others; the same score
  P:containers:promised           hash    of these, the others: container id -> "<id>:<n>" that is expected to take it
  P:containers:gone               zset    containers that are paid for, score = when they are forgotten
  P:warm:pools                    hash    "<kind>:<gpu>" -> "<number> <buffer> <rate> <counted>": what Modal keeps warm, and
                                          how many of those count now (keep_warm)
  P:live:classes                  hash    "<kind>:<gpu>" -> attempts that burn now
  P:warm:rounds:<kind>:<gpu>      zset    rounds that were paid ahead for warm containers: from_ms, score = up to when
  P:warm:unused:<kind>:<gpu>      hash    from_ms -> container-milliseconds of it that no call has been credited with
]]
local CONTAINER_KEPT_MS = 86400000

local function gpus_of(gpu) return tonumber(string.match(gpu or '', ':(%d+)$') or nil) or 1 end
local function pool_key(which, c) return K('containers:' .. which .. ':' .. c.kind .. ':' .. (c.gpu or '')) end

local function container(id)
  local text = redis.call('HGET', K('containers'), id)
  if not text then return nil end
  local c = cjson.decode(text)
  -- (What an earlier version wrote names neither.)
  c.tenant, c.gpu = c.tenant or '', c.gpu or ''
  return c
end

-- Modal keeps so many containers of a class up, and so many idle ones beside; which of them are there without a call and
-- without a tail. A live attempt has one of them, and a free one is one of them: none is counted twice.
local function warm_idle(kind, gpu, number, buffer)
  local live = tonumber(redis.call('HGET', K('live:classes'), kind .. ':' .. gpu) or '0')
  return math.max(0, number - live - redis.call('ZCARD', pool_key('free', { kind = kind, gpu = gpu }))) + buffer
end

local function warm_pool(kind, gpu)
  local text = redis.call('HGET', K('warm:pools'), kind .. ':' .. gpu)
  if not text then return nil end
  local number, buffer, rate, counted = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
  return { number = tonumber(number), buffer = tonumber(buffer), rate = tonumber(rate), counted = tonumber(counted),
    gpu = gpu }
end

-- So many are kept from now on; they burn. Returns how many of them count.
local function keep_warm(kind, gpu, number, buffer, rate)
  local was = warm_pool(kind, gpu) or { rate = 0, counted = 0 }
  local counted = warm_idle(kind, gpu, number, buffer)
  local more = counted - was.counted
  if more ~= 0 or rate ~= was.rate then burn(counted * rate - was.counted * was.rate, more * gpus_of(gpu), 0, more) end
  if number + buffer > 0 then
    local text = string.format('%.0f %.0f %.0f %.0f', number, buffer, rate, counted)
    redis.call('HSET', K('warm:pools'), kind .. ':' .. gpu, text)
  else
    redis.call('HDEL', K('warm:pools'), kind .. ':' .. gpu)
  end
  return counted
end

local function recount_warm(kind, gpu)
  local pool = warm_pool(kind, gpu)
  if pool then keep_warm(kind, gpu, pool.number, pool.buffer, pool.rate) end
end

-- The container that is kept warm and that a new attempt would be given; nil if there is none.
local function kept_container(kind, gpu)
  local pool = warm_pool(kind, gpu)
  return pool and pool.counted > pool.buffer and pool or nil
end

-- An attempt burns from now on (by 1), or does not any more (by -1).
local function attempt_burns(kind, gpu, rate, by, of_class)
  burn(by * rate, by * gpus_of(gpu), by, 0)
  if not of_class then return end
  local class = kind .. ':' .. gpu
  if redis.call('HINCRBY', K('live:classes'), class, by) <= 0 then redis.call('HDEL', K('live:classes'), class) end
  recount_warm(kind, gpu)
end

local function be_free(id, c, since_ms)
  if redis.call('ZADD', pool_key('free', c), since_ms, id) == 1 then
    burn(c.rate, gpus_of(c.gpu), 0, 1)
    recount_warm(c.kind, c.gpu)
  end
end

local function be_not_free(id, c)
  if redis.call('ZREM', pool_key('free', c), id) == 1 then
    burn(-c.rate, -gpus_of(c.gpu), 0, -1)
    recount_warm(c.kind, c.gpu)
  end
end

-- A container idles from now on, with its tail set aside ...
local function enter_idle(id, c)
  redis.call('ZADD', K('containers:idle'), whole(now_ms + c.window_ms), id)
  be_free(id, c, whole(now_ms))
  reserve('container:' .. id, c, math.ceil(c.rate * c.window_ms / 1e6))
end

-- ... or does not any more. Returns what was set aside for its tail, which is given back.
local function leave_idle(id, c)
  redis.call('ZREM', K('containers:idle'), id)
  redis.call('HDEL', K('containers:promised'), id)
  redis.call('ZREM', pool_key('taken', c), id)
  be_not_free(id, c)
  return reserve('container:' .. id, c, 0)
end

-- It is gone; its record is kept for a while: a call of it that is concluded late must not pay again for what is paid.
local function be_gone(id)
  redis.call('ZADD', K('containers:gone'), whole(now_ms + CONTAINER_KEPT_MS), id)
end

-- An idle container is gone: so many milliseconds of its tail are booked, and the rest is given back. Returns what was booked.
local function book_tail(id, c, idled_ms)
  local tail = leave_idle(id, c)
  local part = idled_ms >= c.window_ms and tail or math.min(tail, math.ceil(c.rate * idled_ms / 1e6))
  book('modal', c, c.gpu or '', 'idle', part, 'container:' .. id)
  tell_hours(c.booked_ms, c.booked_ms + idled_ms, part)
  c.booked_ms = c.booked_ms + idled_ms
  redis.call('HSET', K('containers'), id, cjson.encode(c))
  be_gone(id)
  return part
end

-- The idle container that a new attempt of a kind and class will be given; nil if there is none.
local function warm_container(kind, gpu)
  local id = redis.call('ZREVRANGE', pool_key('free', { kind = kind, gpu = gpu }), 0, 0)[1]
  local until_ms = id and tonumber(redis.call('ZSCORE', K('containers:idle'), id) or nil)
  if not until_ms or until_ms <= now_ms then return nil end
  return id, container(id)
end

local function promise(id, c, member)
  redis.call('ZADD', pool_key('taken', c), redis.call('ZSCORE', pool_key('free', c), id), id)
  be_not_free(id, c)
  redis.call('HSET', K('containers:promised'), id, member)
end

-- The attempt that was to take it has ended: if it went elsewhere, the container idles for another.
local function take_back_promise(id, member)
  if redis.call('HGET', K('containers:promised'), id) ~= member then return end
  redis.call('HDEL', K('containers:promised'), id)
  local c = container(id)
  local since_ms = c and redis.call('ZSCORE', pool_key('taken', c), id)
  if not since_ms then return end
  redis.call('ZREM', pool_key('taken', c), id)
  be_free(id, c, since_ms)
  count('idle_not_taken_total', 'gpu=' .. c.gpu .. '|kind=' .. c.kind)
end

-- So many warm containers of a class, in which nothing runs, are paid for from now on for a round.
local function pay_ahead(kind, gpu, number, round_ms)
  local rounds, unused = K('warm:rounds:' .. kind .. ':' .. gpu), K('warm:unused:' .. kind .. ':' .. gpu)
  for _, old in ipairs(redis.call('ZRANGEBYSCORE', rounds, '-inf', whole(now_ms - CONTAINER_KEPT_MS), 'LIMIT', 0, 100)) do
    redis.call('ZREM', rounds, old)
    redis.call('HDEL', unused, old)
  end
  if number <= 0 then return end
  redis.call('ZADD', rounds, whole(now_ms + round_ms), whole(now_ms))
  redis.call('HSET', unused, whole(now_ms), whole(number * round_ms))
end

-- A warm container waited for a call: returns how much of that was paid ahead, milliseconds. Nothing is credited twice.
local function credit_paid_ahead(kind, gpu, from_ms, upto_ms)
  local rounds, unused = K('warm:rounds:' .. kind .. ':' .. gpu), K('warm:unused:' .. kind .. ':' .. gpu)
  local credited_ms = 0
  local found = redis.call('ZRANGEBYSCORE', rounds, '(' .. whole(from_ms), '+inf', 'WITHSCORES')
  for i = 1, #found, 2 do
    local began_ms, ended_ms = tonumber(found[i]), tonumber(found[i + 1])
    local left_ms = tonumber(redis.call('HGET', unused, found[i]) or '0')
    local part_ms = math.min(left_ms, math.min(ended_ms, upto_ms) - math.max(began_ms, from_ms))
    if part_ms > 0 then
      credited_ms = credited_ms + part_ms
      redis.call('HSET', unused, found[i], whole(left_ms - part_ms))
    end
  end
  return math.min(credited_ms, upto_ms - from_ms)
end

-- What a call's containers cost that is not paid yet, micro-dollars by component. From a container's start to its first
-- call is cold start, between two calls it waited, the rest is execution; who does not say when the method began is
-- charged execution.
local function charge_containers(job, gpu, usage)
  local rate, total, parts = usage.usd_nanos_per_s, 0, { cold_start = 0, between_calls = 0 }
  for _, use in ipairs(usage.containers) do
    local known = container(use.container_id)
    local c = known or { booked_ms = use.started_ms }
    local tail = known and leave_idle(use.container_id, c) or 0
    local from_ms, upto_ms = c.booked_ms, math.max(c.booked_ms, use.finished_ms)
    local before = known and 'between_calls' or (use.first_call and 'cold_start') or nil
    local began_ms = is_null(use.call_started_ms) and from_ms or math.max(from_ms, math.min(use.call_started_ms, upto_ms))
    -- One that waited without a tail of its own was kept warm, and its waiting may be paid already.
    local paid_ms = before and tail == 0 and credit_paid_ahead(job.kind, gpu, from_ms, began_ms) or 0
    if before then parts[before] = parts[before] + (began_ms - from_ms - paid_ms) * rate end
    total = total + (upto_ms - from_ms - paid_ms) * rate
    tell_hours(from_ms, upto_ms, math.ceil((upto_ms - from_ms - paid_ms) * rate / 1e6))
    c.kind, c.tenant, c.gpu, c.booked_ms, c.rate, c.window_ms = job.kind, job.tenant, gpu, upto_ms, rate, usage.idle_window_ms
    redis.call('HSET', K('containers'), use.container_id, cjson.encode(c))
    if use.gone then be_gone(use.container_id) else enter_idle(use.container_id, c) end
  end
  parts.cold_start, parts.between_calls = math.floor(parts.cold_start / 1e6), math.floor(parts.between_calls / 1e6)
  parts.execution = math.ceil(total / 1e6) - parts.cold_start - parts.between_calls
  return parts
end

-- Before the first write: what a caller says of a call's usage is whole.
local function must_be_usage(says)
  if is_null(says.usage) then return end
  must_be_numbers(says.usage, { 'usd_nanos_per_s', 'idle_window_ms' })
  for _, use in ipairs(says.usage.containers) do
    must_be_numbers(use, { 'started_ms', 'finished_ms' })
    if type(use.container_id) ~= 'string' then error({ err = 'WRONG argument: a container has no id' }, 0) end
  end
end

-- What an attempt that has ended cost, by component: its containers' seconds (says.usage), or what the caller says, or,
-- in-house, where nobody says it, its seconds so far at the price that it was started with.
local function parts_of_end(job, pool, gpu, says, started_ms, usd_nanos_per_s)
  if type(says) == 'table' and not is_null(says.usage) then return charge_containers(job, gpu, says.usage) end
  local usd_micros = type(says) == 'table' and says.cost_usd_micros or says
  if type(usd_micros) ~= 'number' then usd_micros = 0 end
  if pool == 'inhouse' and usd_micros == 0 and started_ms and usd_nanos_per_s then
    usd_micros = math.ceil((now_ms - tonumber(started_ms)) * tonumber(usd_nanos_per_s) / 1e6)
  end
  if pool == 'modal' then tell_hours(now_ms, now_ms, usd_micros) end
  return { execution = usd_micros }
end

-- Whose an attempt is when its job's record cannot be read: the attempt's own record says it. nil: it has none.
local function owner_of_unreadable(id, n)
  local at = redis.pcall('HMGET', attempt_key(id, n), 'tenant', 'kind')
  if at.err or not at[2] then return nil end
  return { id = id, tenant = at[1] or '', kind = at[2], unreadable = true }
end

-- Books what an attempt cost and gives back what was set aside for it; the second time changes nothing. `says` is the
-- script's arguments (usage?, cost_usd_micros), or micro-dollars.
local function settle(job, n, says)
  local key, member = attempt_key(job.id, n), job.id .. ':' .. n
  local at = redis.call('HMGET', key, 'pool', 'settled', 'gpu', 'rate', 'warm', 'started_ms', 'usd_nanos_per_s',
    'first_reserved_usd_micros')
  if not at[1] or at[2] then return end
  local pool, gpu, cost_usd_micros = at[1], at[3] or '', 0
  for component, usd_micros in pairs(parts_of_end(job, pool, gpu, says, at[6], at[7])) do
    book(pool, job, gpu, component, usd_micros, member)
    if pool == 'modal' and usd_micros > 0 then
      redis.call('HINCRBY', key, 'cost_' .. component .. '_usd_micros', whole(usd_micros))
    end
    cost_usd_micros = cost_usd_micros + usd_micros
  end
  redis.call('HSET', key, 'settled', '1', 'settled_ms', whole(now_ms), 'reserved_usd_micros', '0')
  redis.call('HINCRBY', key, 'cost_usd_micros', whole(cost_usd_micros))
  if cost_usd_micros > 0 and not job.unreadable then
    redis.call('HINCRBY', job_key(job.id), 'cost_usd_micros', whole(cost_usd_micros))
  end
  if pool ~= 'modal' then return end
  local reserved = reserve(member, job, 0)
  -- (Top-ups stay ahead of the cost: what was foreseen is what was set aside at first.)
  local foreseen = tonumber(at[8] or reserved)
  if reserved > 0 and cost_usd_micros > 0 then
    observe('prediction_error_ratio', 'kind=' .. job.kind .. '|pool=modal', cost_usd_micros / foreseen)
  end
  if cost_usd_micros > reserved then
    count('reservation_exceeded_usd_micros_total', 'gpu=' .. gpu .. '|kind=' .. job.kind, cost_usd_micros - reserved)
  end
  if at[5] then take_back_promise(at[5], member) end
  if at[4] then
    -- (An orphan whose books are opened again counts no second time.)
    redis.call('HDEL', key, 'rate')
    -- (An attempt that an earlier version placed was not counted to its class.)
    attempt_burns(job.kind, gpu, tonumber(at[4]), -1, at[8])
  end
end
