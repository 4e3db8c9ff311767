--[[ A follower looked at a call and it is still running: when to look again, and how far it is.
a: id, attempt, again_in_ms, progress?
-> released | stale ]]
work_may_end()
local job = load(a.id)
local mine = job and job.attempt == whole(a.attempt) and job.pool == 'modal'
if not mine or (job.state ~= 'running' and job.state ~= 'delivering') then return reply({ outcome = 'stale' }) end
redis.call('ZREM', K('calls:claimed'), a.id)
redis.call('ZADD', K('calls:due'), whole(now_ms + a.again_in_ms), a.id)
if not is_null(a.progress) and a.progress > tonumber(job.progress or '0') then
  redis.call('HSET', job_key(a.id), 'progress', whole(a.progress))
end
return reply({ outcome = 'released' })
