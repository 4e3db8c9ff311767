--[[ What every script shares. Prepended to each script together with the tables of ledger/states.py.

KEYS[1]  P:meta   the one key that is declared; all others share its hash tag, so they live on the same node.
ARGV[1]  the arguments as one JSON object, in `a`.
The answer is one JSON object with `outcome`.

Key map (P is the prefix, e.g. {overspill}; times are milliseconds by Redis's TIME)
  P:meta                    hash    clock_offset_ms (tests only: doctor refuses it)
  P:job:<id>                hash    the job; see ledger/models.py JobRecord; while it is retired also retire_from, the
                                    newest attempt that is left
  P:attempt:<id>:<n>        hash    one attempt: pool, gpu, worker, call_id, reserved_usd_micros, cost, outcome, times
  P:history:<id>            list    the job's events, JSON, oldest first
  P:receipts:<id>           list    the job's receipts, JSON, oldest first
  P:train:<id>              list    how a training run goes, JSON rows, oldest first, bounded
  P:train:speeds            hash    recipe@place -> seconds per training example, learnt
  P:jobs:<kind>             zset    every job, score = created_ms
  P:tenant:<tenant>:<kind>  zset    every job of a tenant, score = created_ms
  P:queued:<kind>           zset    waits for a decision, score = order (priority, then age)
  P:delayed:<kind>          zset    waits for its back-off to end, score = when it joins `queued`
  P:claimed:<kind>          zset    a dispatcher decides about it, score = end of the dispatcher's claim
  P:waiting:inhouse:<kind>  zset    placed in-house, waits for a slot, score = order
  P:waiting:modal           zset    placed on Modal, waits for its spawn, score = order
  P:active:inhouse:<kind>   zset    running or delivering in-house, score = started_ms
  P:modal                   zset    Modal attempts alive (placed, running, delivering), score = placed_ms
  P:leases                  zset    attempts under a lease (in-house; Modal while spawning), score = lease_until
  P:calls:due               zset    Modal calls to be looked at, score = next_check
  P:calls:claimed           zset    Modal calls that a follower looks at, score = lease_until
  P:cancels                 zset    "<id>:<n>" whose Modal call must be stopped and settled, score = next_check
  P:held                    zset    held jobs, score = next_check
  P:held:<kind>             zset    the same, score = when it was first held (of the last time that it could not be placed)
  P:done:<kind>             zset    terminal jobs, score = finished_ms
  P:nudges:<queue>          zset    jobs that wait on a nudge, score = when to send it again
  P:slots:<kind>            zset    in-house slots, score = lease_until
  P:spill:<kind>            hash    active (0|1), since_ms: the watermark policy's memory
  P:override                hash    the operator's hand on spilling: mode (auto|on|off), who, why, at_ms, until_ms?
  P:container_secret        string  makes the keys with which Modal calls sign (ledger/store.py)
  P:quarantine              hash    id -> why its record cannot be read; it is a member of nothing else
  P:counters                hash    "<metric>|<label>=<value>|..." -> whole number; see ledger/metrics.py
  P:gauges                  hash    "<metric>|<labels>" -> "<value> <at_ms>", see ledger/metrics.py
  P:events                  stream  every transition
  P:idempotency:<tenant>:<key>  string  job id, expires
  P:retry:<tenant>:<digest>     string  job id of a request without a key, expires soon
  P:lead:<duty>             string  which process leads a duty, expires
  P:breaker                 hash    before Modal: phase, reason, since_ms, memory (the machine's own JSON), version
  P:rate:spawn              hash    tokens, at_ms: the bucket that all spawners share
  P:hints                   hash    last_ms: when the last hint from a call came
  P:hints:owners            hash    partition of the queue of hints -> the follower that drains it
  P:followers               zset    live followers, score = lease_until
]]
local P = string.sub(KEYS[1], 1, -6)
local a = cjson.decode(ARGV[1])

local function K(name) return P .. ':' .. name end
local function job_key(id) return K('job:' .. id) end
local function attempt_key(id, n) return K('attempt:' .. id .. ':' .. n) end
local function whole(n) return string.format('%.0f', n) end
local function is_null(v) return v == nil or v == cjson.null end

local clock_offset_ms = tonumber(redis.call('HGET', KEYS[1], 'clock_offset_ms') or '0')
local now_ms = (function()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000) + clock_offset_ms
end)()

-- Counters and histograms are raised in the same script as what they count, so they cannot disagree with it.
-- labels: "kind=render|pool=modal", sorted by name, of bounded values (never an id). (A short text costs Redis less than
-- a number does. Gathering the fields, to write them by one command at the end, costs more than it saves.)
local COUNTERS = K('counters')
local function count(metric, labels, by) redis.call('HINCRBY', COUNTERS, metric .. '|' .. labels, by or '1') end

-- What is no sensible number (a measurement that a container sent) is left out: nothing that is counted may stop what it
-- counts.
local function can_be_observed(value) return value >= 0 and value < 1e9 end

-- All of one value in a histogram but its count. job_id, if given, is kept as the bucket's example, of its first values
-- and then of each eighth: the newest but for a few. (%d is a fraction of the price of what Lua and Redis write a number
-- with.)
local function add_up(series, bucket, value, nth, job_id)
  redis.call('HINCRBY', COUNTERS, series .. '|sum', string.format('%d', value * 1e6 + 0.5))
  if job_id and (nth <= 8 or nth % 8 == 0) then
    redis.call('HSET', COUNTERS, series .. '|le=' .. bucket .. '|job', string.format('%s %.14g %d', job_id, value, now_ms))
  end
end

-- One value into a histogram.
local function observe(metric, labels, value, job_id)
  if not can_be_observed(value) then return end
  local series, bucket = metric .. '|' .. labels, bucket_of(metric, value)
  add_up(series, bucket, value, redis.call('HINCRBY', COUNTERS, series .. '|le=' .. bucket, '1'), job_id)
end

-- A change of a job's state that is one of several metrics' counts, and one value of a histogram: they are one field, and
-- come apart when they are read (ledger/metrics.py `TOGETHER`).
local function count_with(change, labels, metric, metric_labels, value, job_id)
  local bucket = can_be_observed(value) and bucket_of(metric, value) or 'none'
  local nth = redis.call('HINCRBY', COUNTERS, change .. '|' .. labels .. '|le=' .. bucket, '1')
  if bucket ~= 'none' then add_up(metric .. '|' .. metric_labels, bucket, value, nth, job_id) end
end

local function reply(t)
  t.now_ms = now_ms
  return cjson.encode(t)
end

-- A round of a duty that is done again and again (repair, following) went well: its time is shown, and that no round has
-- failed since.
local function note_duty(duty)
  redis.call('HSET', K('gauges'), 'duty_done|duty=' .. duty, '1 ' .. whole(now_ms),
    'duty_failed|duty=' .. duty, '0 ' .. whole(now_ms))
end

-- When Redis is at its maxmemory it refuses a script's first write that may need memory, and allows all that follow a
-- write. New work should be refused, while work that is under way should end (and so free memory): the scripts that
-- end work begin with a write that needs none.
local function work_may_end() redis.call('DEL', K('nothing')) end

-- Every index of jobs that wait for somebody or are held by somebody. A job is in those of its state only.
local function working_indexes()
  local names = { 'waiting:modal', 'modal', 'leases', 'calls:due', 'calls:claimed', 'held', 'nudges:overflow' }
  for _, kind in ipairs({ 'render', 'train' }) do
    for _, stem in ipairs({ 'queued:', 'delayed:', 'claimed:', 'waiting:inhouse:', 'active:inhouse:', 'nudges:',
      'nudges:inhouse.', 'held:' }) do
      names[#names + 1] = stem .. kind
    end
  end
  return names
end

-- A Modal attempt that is not settled keeps dollars, and its call may run, also when its job's record cannot be read: the
-- attempt has a record of its own. It becomes a call to be stopped, which ends in a settlement.
local function stop_newest_attempt(id)
  local n = redis.pcall('HGET', job_key(id), 'attempt')
  if type(n) ~= 'string' or not string.find(n, '^%d+$') then return end
  local at = redis.pcall('HMGET', attempt_key(id, n), 'pool', 'settled')
  if at[1] == 'modal' and not at[2] then redis.call('ZADD', K('cancels'), 'NX', whole(now_ms), id .. ':' .. n) end
end

-- What a tenant may have at once counts its open jobs, which have neither ended nor are in quarantine: P:open holds of each
-- "<bytes of its spec> <tenant>", P:open_jobs and P:open_bytes the sums by tenant (submit.lua).
local function no_longer_open(id)
  local bytes, tenant = string.match(redis.call('HGET', K('open'), id) or '', '^(%d+) (.+)$')
  if not bytes then return end
  redis.call('HDEL', K('open'), id)
  redis.call('HINCRBY', K('open_jobs'), tenant, '-1')
  redis.call('HINCRBY', K('open_bytes'), tenant, '-' .. bytes)
end

-- A record that this version cannot read is taken out of everything, with the reason, and the rest goes on.
local function quarantine(id, why)
  for _, name in ipairs(working_indexes()) do redis.call('ZREM', K(name), id) end
  no_longer_open(id)
  stop_newest_attempt(id)
  if redis.call('HSETNX', K('quarantine'), id, why) == 1 then
    count('quarantined_total', 'reason=unreadable')
    redis.call('XADD', K('events'), 'MAXLEN', '~', a.events_kept or 100000, '*', 'event', 'job.quarantined', 'id', id,
      'kind', '', 'tenant', '', 'state', '', 'attempt', '0', 'pool', '', 'gpu', '', 'detail', why)
  end
end

local function what_is_wrong(job)
  for _, name in ipairs({ 'id', 'kind', 'tenant', 'state', 'spec', 'burst' }) do
    if not job[name] then return 'the field ' .. name .. ' is missing' end
  end
  for _, name in ipairs({ 'priority', 'created_ms', 'changed_ms', 'attempt', 'claim' }) do
    if not tonumber(job[name]) then return 'the field ' .. name .. ' is missing or no number' end
  end
  for _, name in ipairs({ 'deadline_ms', 'started_ms', 'finished_ms', 'progress', 'cost_usd_micros' }) do
    if job[name] and not tonumber(job[name]) then return 'the field ' .. name .. ' is no number' end
  end
  if job.artifact and not pcall(cjson.decode, job.artifact) then return 'the field artifact is no JSON' end
  if (tonumber(job.schema or '') or 0) ~= SCHEMA then
    return 'it was written with schema ' .. (job.schema or 'none') .. ', this version reads ' .. whole(SCHEMA)
  end
  if not LEGAL[job.state] then return 'the state ' .. job.state .. ' is unknown' end
  if not BURSTS[job.burst] then return 'the burst mode ' .. job.burst .. ' is unknown' end
  if not KINDS[job.kind] then return 'the kind ' .. job.kind .. ' is unknown' end
  if job.pool and job.pool ~= 'inhouse' and job.pool ~= 'modal' then return 'the pool ' .. job.pool .. ' is unknown' end
  return nil
end

-- A job's record, or nil if there is none or it had to be put into quarantine.
local function load(id)
  local flat = redis.pcall('HGETALL', job_key(id))
  if flat.err then
    quarantine(id, 'its key holds a value of another type')
    return nil
  end
  if #flat == 0 then return nil end
  local job = {}
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  local wrong = what_is_wrong(job)
  if wrong or redis.call('HEXISTS', K('quarantine'), id) == 1 then
    if wrong then quarantine(id, wrong) end
    return nil
  end
  return job
end

-- The calendar day (UTC) of a time, "YYYY-MM-DD". Howard Hinnant's civil_from_days.
local function date_of(ms)
  local z = math.floor(ms / 86400000) + 719468
  local era = math.floor(z / 146097)
  local doe = z - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  local y = yoe + era * 400 + (m <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02d', y, m, doy - math.floor((153 * mp + 2) / 5) + 1)
end

local function month_of(ms) return string.sub(date_of(ms), 1, 7) end
local function hour_of(ms) return date_of(ms) .. string.format('T%02d', math.floor(ms % 86400000 / 3600000)) end

-- Priority first (9 before 0), then age.
local function order_of(job)
  return (9 - tonumber(job.priority)) * 1e13 + tonumber(job.created_ms)
end

local function decide_queue(job) return job.kind end
local function run_queue(job) return job.pool == 'inhouse' and ('inhouse.' .. job.kind) or 'overflow' end

-- Every membership that a job can have in its present state ends here ...
local function leave(job)
  local id, s = job.id, job.state
  if s == 'queued' then
    redis.call('ZREM', K('queued:' .. job.kind), id)
    redis.call('ZREM', K('delayed:' .. job.kind), id)
    redis.call('ZREM', K('claimed:' .. job.kind), id)
    redis.call('ZREM', K('nudges:' .. decide_queue(job)), id)
  elseif s == 'held' then
    redis.call('ZREM', K('held'), id)
    redis.call('ZREM', K('held:' .. job.kind), id)
  elseif s == 'placed' then
    redis.call('ZREM', job.pool == 'inhouse' and K('waiting:inhouse:' .. job.kind) or K('waiting:modal'), id)
    redis.call('ZREM', K('nudges:' .. run_queue(job)), id)
    redis.call('ZREM', K('leases'), id)
  else
    redis.call('ZREM', K('active:inhouse:' .. job.kind), id)
    redis.call('ZREM', K('leases'), id)
    redis.call('ZREM', K('calls:due'), id)
    redis.call('ZREM', K('calls:claimed'), id)
  end
end

-- ... and every membership of its new state begins here.
local function enter(job)
  local id, s = job.id, job.state
  if job.pool ~= 'modal' or s == 'queued' or s == 'held' or TERMINAL[s] then redis.call('ZREM', K('modal'), id) end
  if s == 'queued' then
    local ready_ms = tonumber(job.not_before_ms or '0')
    if ready_ms > now_ms then
      redis.call('ZADD', K('delayed:' .. job.kind), whole(ready_ms), id)
    else
      ready_ms = now_ms
      redis.call('ZADD', K('queued:' .. job.kind), whole(order_of(job)), id)
    end
    redis.call('ZADD', K('nudges:' .. decide_queue(job)), whole(ready_ms + a.nudge_again_ms), id)
  elseif s == 'held' then
    redis.call('ZADD', K('held'), job.next_check_ms, id)
    redis.call('ZADD', K('held:' .. job.kind), job.held_since_ms, id)
  elseif s == 'placed' then
    redis.call('ZADD', job.pool == 'inhouse' and K('waiting:inhouse:' .. job.kind) or K('waiting:modal'),
      whole(order_of(job)), id)
    redis.call('ZADD', K('nudges:' .. run_queue(job)), whole(now_ms + a.nudge_again_ms), id)
    if job.pool == 'modal' then redis.call('ZADD', K('modal'), whole(now_ms), id) end
  elseif TERMINAL[s] then
    redis.call('ZADD', K('done:' .. job.kind), whole(now_ms), id)
    no_longer_open(id)
  elseif job.pool == 'inhouse' then
    redis.call('ZADD', K('active:inhouse:' .. job.kind), whole(tonumber(job.started_ms or '') or now_ms), id)
  end
end

local function record_event(job, event, detail, attempt)
  attempt = attempt or job.attempt
  local entry = { at_ms = now_ms, event = event, state = job.state, attempt = tonumber(attempt),
    pool = job.pool, gpu = job.gpu, detail = detail }
  redis.call('RPUSH', K('history:' .. job.id), cjson.encode(entry))
  redis.call('XADD', K('events'), 'MAXLEN', '~', a.events_kept, '*', 'event', event, 'id', job.id, 'kind', job.kind,
    'tenant', job.tenant, 'state', job.state, 'attempt', attempt, 'pool', job.pool or '', 'gpu', job.gpu or '',
    'detail', detail or '')
end

-- Error codes of jobs that were refused, or held for too long.
local SHED = { overloaded = true, budget_exhausted = true, deadline_impossible = true }

-- What a change is to those who watch; `started_before` is the job's started_ms before it. An attempt that completes its
-- job is counted here too.
local function count_change(job, from, to, started_before)
  local kind, pool = 'kind=' .. job.kind, '|pool=' .. (job.pool or 'none')
  local late = job.deadline_ms and not (to == 'completed' and now_ms <= tonumber(job.deadline_ms))
  if to == 'running' and not started_before then
    local where = kind .. pool
    count_with('job_started', where, 'job_wait_seconds', where, (now_ms - job.created_ms) / 1000, job.id)
  elseif to == 'placed' then
    count('job_placed', 'from=' .. from .. '|gpu=' .. (job.gpu or 'inhouse') .. '|' .. kind .. pool .. '|rule=' .. a.rule)
  elseif to == 'completed' then
    local where, deadline = kind .. pool, late and 'missed' or job.deadline_ms and 'met' or 'none'
    count_with('job_completed', 'deadline=' .. deadline .. '|gpu=' .. (job.gpu or 'inhouse') .. '|' .. where,
      'job_total_seconds', where, (now_ms - job.created_ms) / 1000, job.id)
    observe('job_run_seconds', where, (now_ms - job.started_ms) / 1000)
  elseif to == 'failed' then
    local reason = '|reason=' .. (job.error_code or 'unknown')
    count('job_failed', 'from=' .. from .. '|' .. kind .. pool .. reason)
    if SHED[job.error_code] then count('shed_total', kind .. reason) end
    if late then count('deadlines_missed_total', kind .. pool) end
  elseif to == 'cancelled' then
    -- (It had no deadline any more.)
    count('job_cancelled', 'from=' .. from .. '|' .. kind .. pool)
  else
    count('transitions_total', 'from=' .. from .. '|' .. kind .. '|to=' .. to)
  end
end

-- Redis takes nothing back of what a script has written: whoever writes anything before a transition asks this first.
local function must_be_legal(job, to)
  if LEGAL[job.state] and LEGAL[job.state][to] then return end
  error({ err = 'ILLEGAL transition ' .. job.state .. ' -> ' .. to .. ' of job ' .. job.id }, 0)
end

-- Arguments that are to be numbers are numbers; asked before the first write.
local function must_be_numbers(of, names)
  for _, name in ipairs(names) do
    if type(of) ~= 'table' or type(of[name]) ~= 'number' then error({ err = 'WRONG argument: ' .. name .. ' is no number' }, 0) end
  end
end

-- The only place where a job's state changes: table checked, memberships moved, event and counter written.
local function transition(job, to, fields, detail)
  local from = job.state
  must_be_legal(job, to)
  leave(job)
  local started_before = job.started_ms
  local flat = { 'state', to, 'changed_ms', whole(now_ms) }
  for name, value in pairs(fields or {}) do
    if is_null(value) then
      job[name] = nil
      redis.call('HDEL', job_key(job.id), name)
    else
      if type(value) == 'number' then value = whole(value) end
      job[name] = value
      flat[#flat + 1] = name
      flat[#flat + 1] = value
    end
  end
  if TERMINAL[to] then
    flat[#flat + 1] = 'finished_ms'
    flat[#flat + 1] = whole(now_ms)
  end
  job.state = to
  redis.call('HSET', job_key(job.id), unpack(flat))
  enter(job)
  record_event(job, 'job.' .. to, detail)
  count_change(job, from, to, started_before)
end

local function end_attempt(job, outcome)
  redis.call('HSET', attempt_key(job.id, job.attempt), 'outcome', outcome, 'ended_ms', whole(now_ms))
  if outcome == 'completed' then return end
  local gpu, pool = 'gpu=' .. (job.gpu or 'inhouse') .. '|kind=' .. job.kind, '|pool=' .. (job.pool or 'none')
  count('attempts_total', gpu .. '|outcome=' .. outcome .. pool)
  if outcome == 'out_of_memory' then
    count('out_of_memory_total', gpu .. pool .. '|where=' .. (is_null(a.where) and 'host' or a.where))
  end
end

-- A Modal call that nobody waits for any more: a follower will stop it and settle what it cost.
local function must_stop(job, n)
  redis.call('ZADD', K('cancels'), whole(now_ms), job.id .. ':' .. n)
end

-- An attempt ended without a result: back into the queue after a pause while its cause is forgiven, else failed.
-- rule (ledger/retries.py): retries, first_ms, longest_ms; a.jitter is a random share, a.max_attempts the bound in all.
local function fail_attempt(job, cause, message, rule)
  must_be_legal(job, 'queued')
  must_be_legal(job, 'failed')
  end_attempt(job, cause)
  redis.call('HSET', attempt_key(job.id, job.attempt), 'message', message)
  local nth = redis.call('HINCRBY', job_key(job.id), 'tries:' .. cause, 1)
  if nth <= rule.retries and tonumber(job.attempt) < a.max_attempts then
    local pause_ms = math.min(rule.longest_ms, rule.first_ms * 2 ^ math.min(nth - 1, 30)) * (0.5 + a.jitter / 2)
    transition(job, 'queued', { pool = cjson.null, gpu = cjson.null, worker = cjson.null, call_id = cjson.null,
      progress = 0, not_before_ms = math.floor(now_ms + pause_ms) }, cause)
    return 'requeued'
  end
  transition(job, 'failed', { error_code = cause, error_message = message }, cause)
  return 'failed'
end
