--[[ Take or keep the lease on a duty, which one process at a time leads; with lease_ms 0, give it up.
a: duty, owner, lease_ms
-> leading | following (owner) | resigned ]]
work_may_end()
local key = K('lead:' .. a.duty)
local holder = redis.call('GET', key)
if a.lease_ms == 0 then
  if holder == a.owner then redis.call('DEL', key) end
  return reply({ outcome = 'resigned' })
end
if holder and holder ~= a.owner then return reply({ outcome = 'following', owner = holder }) end
redis.call('SET', key, a.owner, 'PX', whole(a.lease_ms))
return reply({ outcome = 'leading' })
