--[[ A worker takes entries that are due. Those that it does not end in time fall due again.
needs: deleting
a: store, limit, lease_ms
-> claimed, entries = [text], claim (to be given back with each) ]]
work_may_end()
local key = K('deletions:' .. a.store)
local entries = redis.call('ZRANGEBYSCORE', key, '-inf', whole(now_ms), 'LIMIT', 0, a.limit)
local claim = whole(now_ms + a.lease_ms)
for _, entry in ipairs(entries) do redis.call('ZADD', key, claim, entry) end
return reply({ outcome = 'claimed', entries = entries, claim = claim })
