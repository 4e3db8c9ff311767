--[[ What became of claimed entries. One that was noted again meanwhile, or that another worker has claimed, stays.
needs: deleting
a: store, claim, entries, result (deleted | failed | unfinished | refused), first_ms, longest_ms
-> noted, stale (how many were not this claim's) ]]
work_may_end()
local key, failed, stale = K('deletions:' .. a.store), K('deletions:' .. a.store .. ':failed'), 0
for _, entry in ipairs(a.entries) do
  if redis.call('ZSCORE', key, entry) ~= a.claim then
    stale = stale + 1
  elseif a.result == 'deleted' or a.result == 'refused' then
    redis.call('ZREM', key, entry)
    redis.call('HDEL', failed, entry)
  elseif a.result == 'failed' then
    local nth = redis.call('HINCRBY', failed, entry, 1)
    local pause_ms = math.min(a.longest_ms, a.first_ms * 2 ^ math.min(nth - 1, 30))
    redis.call('ZADD', key, whole(now_ms + pause_ms), entry)
  else
    redis.call('ZADD', key, whole(now_ms), entry)
  end
  count('deletions_total', 'outcome=' .. a.result .. '|store=' .. a.store)
end
return reply({ outcome = 'noted', stale = stale })
