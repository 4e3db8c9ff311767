--[[ Modal attempts that were not spawned, and of which no call exists, are decided about again: Modal may not be used
now. That is no failure of the job's, so it counts against no retry.
needs: settling
a: attempts? = [{id, attempt}] (absent: all that wait for their spawn, up to `limit`), limit, reason, pause_ms
-> given_back, ids ]]
work_may_end()
must_be_numbers(a, { 'pause_ms' })
local wanted = {}
if is_null(a.attempts) then
  for _, id in ipairs(redis.call('ZRANGE', K('waiting:modal'), 0, a.limit - 1)) do wanted[#wanted + 1] = { id = id } end
else
  wanted = a.attempts
end
local ids = {}
for _, one in ipairs(wanted) do
  local job = load(one.id)
  local mine = job and job.state == 'placed' and job.pool == 'modal'
    and (is_null(one.attempt) or job.attempt == whole(one.attempt))
  if mine then
    end_attempt(job, 'given_back')
    settle(job, job.attempt, 0)
    transition(job, 'queued', { pool = cjson.null, gpu = cjson.null, worker = cjson.null,
      call_id = cjson.null, progress = 0, not_before_ms = math.floor(now_ms + a.pause_ms) }, a.reason)
    ids[#ids + 1] = one.id
  end
end
return reply({ outcome = 'given_back', ids = ids })
