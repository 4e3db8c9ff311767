--[[ The holder of an in-house attempt says that it lives, and how far it is.
a: id, attempt, lease_ms, progress?
-> renewed | lost (state, attempt) ]]
work_may_end()
local job = load(a.id)
local mine = job and job.attempt == whole(a.attempt) and job.pool == 'inhouse'
if not mine or (job.state ~= 'running' and job.state ~= 'delivering') then
  return reply({ outcome = 'lost', state = job and job.state or 'unknown', attempt = job and tonumber(job.attempt) or 0 })
end
redis.call('ZADD', K('leases'), 'XX', whole(now_ms + a.lease_ms), a.id)
if not is_null(a.progress) and a.progress > tonumber(job.progress or '0') then
  redis.call('HSET', job_key(a.id), 'progress', whole(a.progress))
end
return reply({ outcome = 'renewed' })
