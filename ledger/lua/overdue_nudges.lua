--[[ Jobs that still wait though a nudge was sent a while ago: the nudge is due again, with a growing interval.
a: queues, limit, nudge_again_ms
-> due, counts = {queue: how many} ]]
local counts = {}
for _, queue in ipairs(a.queues) do
  local key = K('nudges:' .. queue)
  local ids = redis.call('ZRANGEBYSCORE', key, '-inf', whole(now_ms), 'LIMIT', 0, a.limit)
  for _, id in ipairs(ids) do
    redis.call('ZADD', key, whole(now_ms + a.nudge_again_ms), id)
  end
  if #ids > 0 then counts[queue] = #ids end
end
return reply({ outcome = 'due', counts = counts })
