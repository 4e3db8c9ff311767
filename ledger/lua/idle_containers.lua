--[[ Containers whose idle tail is over: what was reserved for it is booked.
a: limit
-> swept, count ]]
work_may_end()
local number = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('containers:idle'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  redis.call('ZREM', K('containers:idle'), id)
  local text = redis.call('HGET', K('containers'), id)
  if text then
    local c = cjson.decode(text)
    local tail = give_back_tail(id)
    if tail > 0 then
      redis.call('HINCRBY', K('money'), 'spent:modal:' .. month_of(now_ms), whole(tail))
      count('cost_usd_micros_total', 'component=idle|kind=' .. c.kind .. '|pool=modal', tail)
      c.booked_ms = c.booked_ms + c.window_ms
      redis.call('HSET', K('containers'), id, cjson.encode(c))
      number = number + 1
    end
    -- Remembered for a while: a call of it that is concluded late must not pay again for what is paid.
    redis.call('ZADD', K('containers:gone'), whole(now_ms + 86400000), id)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', K('containers:gone'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)) do
  redis.call('ZREM', K('containers:gone'), id)
  if not redis.call('ZSCORE', K('containers:idle'), id) then redis.call('HDEL', K('containers'), id) end
end
return reply({ outcome = 'swept', count = number })
