--[[ Publish the artifact of the winning attempt, and settle what the attempt cost.
needs: settling
a: id, attempt, artifact (JSON text), measurements (JSON text), cost_usd_micros, usage?
-> completed | already | stale (state, attempt) ]]
-- What was measured of the attempt, for those who watch.
local function observe_end(job, measured)
  local gpu = 'gpu=' .. (job.gpu or 'inhouse') .. '|kind=' .. job.kind
  if job.pool == 'modal' and (tonumber(measured.startup_s) or 0) > 0 then
    observe('cold_start_seconds', gpu, tonumber(measured.startup_s))
  end
  if tonumber(measured.peak_gpu_memory_ratio) then
    observe('gpu_memory_peak_ratio', gpu .. '|pool=' .. job.pool, tonumber(measured.peak_gpu_memory_ratio))
  end
  if job.pool == 'modal' and tonumber(measured.follow_lag_s) then
    observe('follow_lag_seconds', gpu, tonumber(measured.follow_lag_s), job.id)
  end
end

work_may_end()
local job = load(a.id)
if not job or job.attempt ~= whole(a.attempt) then
  return reply({ outcome = 'stale', state = job and job.state or 'unknown', attempt = job and tonumber(job.attempt) or 0 })
end
if job.state == 'completed' then return reply({ outcome = 'already' }) end
if job.state ~= 'delivering' then return reply({ outcome = 'stale', state = job.state, attempt = tonumber(job.attempt) }) end
local measured = cjson.decode(a.measurements)
must_be_usage(a)
must_be_legal(job, 'completed')
redis.call('HSET', attempt_key(a.id, job.attempt), 'measurements', a.measurements)
end_attempt(job, 'completed')
settle(job, job.attempt, a)
observe_end(job, measured)
transition(job, 'completed', { artifact = a.artifact, progress = 100 }, nil)
return reply({ outcome = 'completed' })
