--[[ An attempt ended without a result.
needs: settling
a: id, attempt, cause, message, rule, jitter, max_attempts, cost_usd_micros, usage?,
   must_stop (its Modal call may still run), where? (cuda | host: which memory ran out)
-> requeued | failed | stale (state, attempt) ]]
work_may_end()
local job = load(a.id)
local live = job and job.attempt == whole(a.attempt)
  and (job.state == 'placed' or job.state == 'running' or job.state == 'delivering')
if not live then
  return reply({ outcome = 'stale', state = job and job.state or 'unknown', attempt = job and tonumber(job.attempt) or 0 })
end
must_be_numbers(a, { 'jitter', 'max_attempts' })
must_be_numbers(a.rule, { 'retries', 'first_ms', 'longest_ms' })
must_be_usage(a)
local n = job.attempt
if a.must_stop then must_stop(job, n) else settle(job, n, a) end
-- What the next attempt's choice of a place and a GPU class should know.
if job.pool == 'inhouse' and a.cause == 'out_of_memory' then
  redis.call('HSET', job_key(job.id), 'outgrown_inhouse', is_null(a.where) and 'host' or a.where)
elseif job.pool == 'modal' and job.gpu and a.cause == 'out_of_memory' then
  redis.call('HSET', job_key(job.id), 'outgrown_gpu', job.gpu)
elseif job.pool == 'modal' and job.gpu and a.cause == 'gpu_exhausted' then
  redis.call('HSET', job_key(job.id), 'exhausted_gpus', (job.exhausted_gpus and job.exhausted_gpus .. ' ' or '') .. job.gpu)
end
return reply({ outcome = fail_attempt(job, a.cause, a.message, a.rule), kind = job.kind })
