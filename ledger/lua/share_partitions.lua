--[[ Followers share the partitions of the queue of hints: each keeps its fair part, and takes what a dead one left.
a: owner, lease_ms (0: it leaves), partitions (how many there are)
-> shared, mine = [number], followers (how many live) ]]
work_may_end()
redis.call('ZREMRANGEBYSCORE', K('followers'), '-inf', whole(now_ms))
if a.lease_ms > 0 then
  redis.call('ZADD', K('followers'), whole(now_ms + a.lease_ms), a.owner)
else
  redis.call('ZREM', K('followers'), a.owner)
end
local followers = redis.call('ZCARD', K('followers'))
local fair = a.lease_ms > 0 and math.ceil(a.partitions / math.max(1, followers)) or 0
local mine, free = {}, {}
for number = 0, a.partitions - 1 do
  local owner = redis.call('HGET', K('hints:owners'), whole(number))
  if owner == a.owner then
    if #mine < fair then
      mine[#mine + 1] = number
    else
      redis.call('HDEL', K('hints:owners'), whole(number))
    end
  elseif not owner or not redis.call('ZSCORE', K('followers'), owner) then
    free[#free + 1] = number
  end
end
for _, number in ipairs(free) do
  if #mine >= fair then break end
  redis.call('HSET', K('hints:owners'), whole(number), a.owner)
  mine[#mine + 1] = number
end
return reply({ outcome = 'shared', mine = mine, followers = followers })
