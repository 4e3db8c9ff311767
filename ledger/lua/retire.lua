--[[ Forget jobs that ended long ago, whole: record, attempts, events, receipts, indexes. Their objects are given back,
to be removed from S3 by the caller.
a: kind, older_than_ms (since its end), limit
-> retired, artifacts = [JSON text], ids, count ]]
work_may_end()
local artifacts, ids, number = {}, {}, 0
local before = now_ms - a.older_than_ms
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('done:' .. a.kind), '-inf', whole(before), 'LIMIT', 0, a.limit)) do
  local got = redis.call('HMGET', job_key(id), 'attempt', 'tenant', 'artifact', 'state')
  local stopping = false
  for n = 1, tonumber(got[1] or '0') do
    if redis.call('ZSCORE', K('cancels'), id .. ':' .. n) then stopping = true end
  end
  if not stopping then
    for n = 1, tonumber(got[1] or '0') do redis.call('DEL', attempt_key(id, whole(n))) end
    redis.call('DEL', job_key(id), K('history:' .. id), K('receipts:' .. id), K('train:' .. id))
    redis.call('ZREM', K('done:' .. a.kind), id)
    redis.call('ZREM', K('jobs:' .. a.kind), id)
    if got[2] then redis.call('ZREM', K('tenant:' .. got[2] .. ':' .. a.kind), id) end
    if got[3] then artifacts[#artifacts + 1] = got[3] end
    count('retired_total', 'kind=' .. a.kind)
    number = number + 1
    ids[number] = id
  end
end
return reply({ outcome = 'retired', artifacts = artifacts, ids = ids, count = number })
