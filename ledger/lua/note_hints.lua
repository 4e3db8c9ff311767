--[[ What calls said of themselves on their way, a batch at a time. A hint is never the truth: it moves a look and shows
progress, and decides nothing.
a: hints = [{id, attempt, call_id, what = started|progress|done, progress?, peak_gpu_memory_bytes?, look_in_ms}]
-> noted, unrecorded = [{id, attempt, call_id}] (calls that began and that the ledger does not know yet) ]]
work_may_end()
local FIRST_IN_LINE_MS = 3600000
local unrecorded, counted = {}, {}
for _, hint in ipairs(a.hints) do
  local n = whole(hint.attempt)
  local got = redis.call('HMGET', job_key(hint.id), 'attempt', 'pool', 'state', 'call_id', 'progress')
  local newest = got[1] == n and got[2] == 'modal'
  local mine = newest and got[4] == hint.call_id and (got[3] == 'running' or got[3] == 'delivering')
  local what = mine and hint.what or 'stale'
  if mine then
    local key = attempt_key(hint.id, n)
    redis.call('HSET', key, 'hinted_ms', whole(now_ms))
    if redis.call('HSETNX', key, 'begun_ms', whole(now_ms)) == 1 then
      local job = load(hint.id)
      if job then record_event(job, 'call.started', hint.call_id) end
    end
    if not is_null(hint.peak_gpu_memory_bytes) then
      redis.call('HSET', key, 'peak_gpu_memory_bytes', whole(hint.peak_gpu_memory_bytes))
    end
    if not is_null(hint.progress) and hint.progress > tonumber(got[5] or '0') then
      redis.call('HSET', job_key(hint.id), 'progress', whole(math.min(hint.progress, 99)))
    end
    if hint.what == 'done' then
      redis.call('HSETNX', key, 'said_ended_ms', whole(now_ms))
      -- First in line, before all looks that only make sure.
      redis.call('ZADD', K('calls:due'), 'XX', whole(now_ms + hint.look_in_ms - FIRST_IN_LINE_MS), hint.id)
    end
  elseif newest and got[3] == 'placed' then
    what = 'early'
    unrecorded[#unrecorded + 1] = { id = hint.id, attempt = hint.attempt, call_id = hint.call_id }
  end
  counted[what] = (counted[what] or 0) + 1
end
for what, number in pairs(counted) do count('hints_total', 'what=' .. what, number) end
redis.call('HSET', K('hints'), 'last_ms', whole(now_ms))
return reply({ outcome = 'noted', unrecorded = unrecorded })
