--[[ Containers whose idle tail is over: what was set aside for it is booked.
needs: settling
a: limit
-> swept, count ]]
work_may_end()
local number = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('containers:idle'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  local c = container(id)
  if c then
    book_tail(id, c, c.window_ms)
    number = number + 1
  else
    redis.call('ZREM', K('containers:idle'), id)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('containers:gone'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  redis.call('ZREM', K('containers:gone'), id)
  if not redis.call('ZSCORE', K('containers:idle'), id) then redis.call('HDEL', K('containers'), id) end
end
return reply({ outcome = 'swept', count = number })
