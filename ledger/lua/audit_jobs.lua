--[[ Compare some jobs with everything that is kept about them. Reads only.
a: ids
-> audited, violations = [{invariant, id, what}] ]]
local violations = {}
local function say(invariant, id, what) violations[#violations + 1] = { invariant = invariant, id = id, what = what } end

-- The indexes that a job in this state must be in: each entry is a list of which exactly one holds it.
local function expected(job)
  local kind, s = job.kind, job.state
  if s == 'queued' then
    return { { 'queued:' .. kind, 'delayed:' .. kind, 'claimed:' .. kind }, { 'nudges:' .. kind } }
  elseif s == 'held' then
    return { { 'held' }, { 'held:' .. kind } }
  elseif s == 'placed' and job.pool == 'inhouse' then
    return { { 'waiting:inhouse:' .. kind }, { 'nudges:inhouse.' .. kind } }
  elseif s == 'placed' and redis.call('ZSCORE', K('leases'), job.id) then
    return { { 'modal' }, { 'leases' } }
  elseif s == 'placed' then
    return { { 'modal' }, { 'waiting:modal' }, { 'nudges:overflow' } }
  elseif TERMINAL[s] then
    return {}
  elseif job.pool == 'inhouse' then
    return { { 'active:inhouse:' .. kind }, { 'leases' } }
  end
  return { { 'modal' }, { 'calls:due', 'calls:claimed' } }
end

local function check_indexes(job)
  local allowed = {}
  for _, choice in ipairs(expected(job)) do
    local found = 0
    for _, name in ipairs(choice) do
      allowed[name] = true
      if redis.call('ZSCORE', K(name), job.id) then found = found + 1 end
    end
    if found ~= 1 then
      say(1, job.id, 'a ' .. job.state .. ' job is in ' .. found .. ' of ' .. table.concat(choice, ', ') .. ', expected 1')
    end
  end
  for _, name in ipairs(working_indexes()) do
    if not allowed[name] and redis.call('ZSCORE', K(name), job.id) then
      say(1, job.id, 'a ' .. job.state .. ' job is still in ' .. name)
    end
  end
  if TERMINAL[job.state] and not redis.call('ZSCORE', K('done:' .. job.kind), job.id) then
    say(1, job.id, 'a terminal job is missing from done')
  end
end

-- The newest attempts of a job; how many a record claims is not believed. (Of one that is being retired, the attempts
-- above `retire_from` are gone.)
local MOST_ATTEMPTS = 1000
local function check_attempts(job)
  local newest = tonumber(job.attempt)
  local last = math.min(newest, tonumber(job.retire_from or '') or newest)
  for n = math.max(1, last - MOST_ATTEMPTS + 1), last do
    local at = redis.call('HMGET', attempt_key(job.id, whole(n)), 'pool', 'settled', 'reserved_usd_micros')
    local live = n == newest and (job.state == 'placed' or job.state == 'running' or job.state == 'delivering')
    local stopping = redis.call('ZSCORE', K('cancels'), job.id .. ':' .. n)
    if not at[1] then
      say(3, job.id, 'attempt ' .. n .. ' has no record')
    elseif not at[2] and not live and not stopping then
      say(5, job.id, 'attempt ' .. n .. ' has ended, is not settled, and nobody stops it')
    elseif at[2] and live then
      say(3, job.id, 'attempt ' .. n .. ' is settled while it is live')
    end
  end
  if redis.call('LLEN', K('receipts:' .. job.id)) < newest then
    say(7, job.id, 'fewer receipts than the ' .. newest .. ' attempts')
  end
end

local function check_story(job)
  -- Transitions only: what is found out about a call later is in the history too.
  local last, completions = nil, 0
  for _, text in ipairs(redis.call('LRANGE', K('history:' .. job.id), 0, -1)) do
    local event = cjson.decode(text)
    if string.find(event.event, 'job.', 1, true) == 1 then
      last = event.state
      if TERMINAL[event.state] then completions = completions + 1 end
    end
  end
  if last ~= job.state then say(7, job.id, 'the last event does not tell its state') end
  if completions ~= (TERMINAL[job.state] and 1 or 0) then
    say(1, job.id, completions .. ' terminal events for a job that is ' .. job.state)
  end
  if (job.artifact ~= nil) ~= (job.state == 'completed') then
    say(2, job.id, 'a ' .. job.state .. ' job ' .. (job.artifact and 'has' or 'lacks') .. ' an artifact')
  end
  if TERMINAL[job.state] and not job.finished_ms then say(1, job.id, 'a terminal job without finished_ms') end
end

for _, id in ipairs(a.ids) do
  if redis.call('HEXISTS', K('quarantine'), id) == 0 then
    local job = load(id)
    if job then
      check_indexes(job)
      check_attempts(job)
      check_story(job)
    end
  end
end
return reply({ outcome = 'audited', violations = violations })
