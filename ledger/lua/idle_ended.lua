--[[ Modal says how many containers of a kind and class exist. Known idle ones beyond that number are gone: their tails are
booked up to now, and the rest is given back.
Every container that exists might be one of the idle ones, except those of which the caller knows that they work; so at
least (idle - busy) - (alive - busy elsewhere) are gone. Only those count that idled already when Modal was asked: a
container that came later is not in its answer. Oldest first; within a class they cost the same.
needs: settling
a: kind, gpu, alive, busy = [container id] (known to be at work), asked_ago_ms, limit
-> booked (count, usd_micros) ]]
work_may_end()
local pool = { kind = a.kind, gpu = a.gpu }
local asked_ms, busy, busy_count, candidates = now_ms - a.asked_ago_ms, {}, 0, {}
for _, id in ipairs(a.busy) do
  if not busy[id] then busy[id], busy_count = true, busy_count + 1 end
end
for _, which in ipairs({ 'free', 'taken' }) do
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', pool_key(which, pool), '-inf', whole(asked_ms))) do
    if not busy[id] then candidates[#candidates + 1] = id end
  end
end
local surplus = math.min(#candidates - math.max(0, a.alive - busy_count), a.limit)
local released, ended = 0, 0
for i = 1, surplus do
  local id = candidates[i]
  local c, until_ms = container(id), tonumber(redis.call('ZSCORE', K('containers:idle'), id) or nil)
  if c and until_ms then
    -- By the container's own clock it idled since booked_ms, by ours at least since it was settled.
    local since_settled_ms = now_ms - (until_ms - c.window_ms)
    local idled_ms = math.max(0, since_settled_ms, math.min(now_ms - c.booked_ms, c.window_ms))
    local tail = tonumber(redis.call('ZSCORE', K('reservations'), 'container:' .. id) or '0')
    released = released + tail - book_tail(id, c, math.min(idled_ms, c.window_ms))
    ended = ended + 1
  end
end
if ended > 0 then count('containers_ended_early_total', 'gpu=' .. a.gpu .. '|kind=' .. a.kind, ended) end
return reply({ outcome = 'booked', count = ended, released_usd_micros = released })
