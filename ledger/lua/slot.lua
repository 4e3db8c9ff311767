--[[ An in-house slot says that it lives (or, with lease_ms 0, that it leaves).
a: kinds, worker, lease_ms
-> noted ]]
work_may_end()
for _, kind in ipairs(a.kinds) do
  if a.lease_ms > 0 then
    redis.call('ZADD', K('slots:' .. kind), whole(now_ms + a.lease_ms), a.worker)
  else
    redis.call('ZREM', K('slots:' .. kind), a.worker)
  end
end
return reply({ outcome = 'noted' })
