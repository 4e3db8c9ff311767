--[[ A training run tells how it goes: rows for whoever watches, bounded for each job. Rows are numbered within their
attempt, so a row that is told twice is kept once. An attempt that is not the newest may still tell what it did.
a: id, attempt, rows = [{n, text (JSON), kind, step}], kept, outer_causes, progress?, speed? = {key, seconds_per_example}
-> noted (number of new rows) | unknown ]]
work_may_end()
local job = load(a.id)
if not job then return reply({ outcome = 'unknown' }) end
local key = attempt_key(a.id, whole(a.attempt))
local seen = tonumber(redis.call('HGET', key, 'train_rows') or '0')
local new, got_on = 0, false
local is_kept = redis.call('EXISTS', key) == 1
-- The step that the job has come to: the greatest that was told since a run of it began last.
local reached = tonumber(job.train_step or '0')

-- A run begins. The second time within an attempt, Modal (or the container) has started it once more; and from a step
-- before the one that the job had come to, it does some of its work twice. (Rows are thinned: to about a hundredth. A
-- run warns of torn checkpoints before it begins, so its first row need not be this one, nor say where it is.)
local function note_start(step)
  local of = redis.call('HMGET', key, 'gpu', 'pool')
  local where = 'gpu=' .. (of[1] or 'inhouse') .. '|pool=' .. (of[2] or 'none')
  if is_kept and redis.call('HINCRBY', key, 'train_starts', 1) > 1 then count('train_restarts_total', where) end
  if reached > step then count('train_steps_repeated_total', where, whole(reached - step)) end
  reached = step
end

for _, row in ipairs(a.rows) do
  if row.n > seen then
    local step = tonumber(row.step) or 0
    if row.kind == 'started' then note_start(step) end
    reached = math.max(reached, step)
    redis.call('RPUSH', K('train:' .. a.id), row.text)
    seen = row.n
    new = new + 1
    got_on = got_on or row.kind == 'checkpoint'
  end
end
if new > 0 then
  redis.call('LTRIM', K('train:' .. a.id), whole(-a.kept), -1)
  redis.call('HSET', job_key(a.id), 'train_step', whole(reached))
  if is_kept then redis.call('HSET', key, 'train_rows', whole(seen)) end
end
-- A run that has left a checkpoint gets on: what strikes it from outside is forgiven anew.
if got_on then
  for _, cause in ipairs(a.outer_causes) do redis.call('HDEL', job_key(a.id), 'tries:' .. cause) end
end
local mine = job.attempt == whole(a.attempt) and (job.state == 'running' or job.state == 'delivering')
if mine and not is_null(a.progress) and a.progress > tonumber(job.progress or '0') then
  redis.call('HSET', job_key(a.id), 'progress', whole(a.progress))
end
if not is_null(a.speed) then
  -- What was learnt last counts a third: hardware and settings change.
  local was = tonumber(redis.call('HGET', K('train:speeds'), a.speed.key) or nil)
  local now = was and was + (a.speed.seconds_per_example - was) / 3 or a.speed.seconds_per_example
  redis.call('HSET', K('train:speeds'), a.speed.key, string.format('%.9g', now))
end
return reply({ outcome = 'noted', new = new })
