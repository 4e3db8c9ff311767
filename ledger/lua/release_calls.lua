--[[ A follower looked at calls and they still run: when to look at each again, and how far it is.
A call that said meanwhile that it has ended is looked at soon, and then a little later each time, whatever the follower
had thought: it may have waited long for its poll, and not have known (workers/overflow/schedule.py has the same rule).
a: calls = [{id, attempt, again_in_ms, progress?}], soon_ms
-> released, stale = [id] ]]
work_may_end()
local stale = {}
for _, call in ipairs(a.calls) do
  local got = redis.call('HMGET', job_key(call.id), 'attempt', 'pool', 'state', 'progress')
  local mine = got[1] == whole(call.attempt) and got[2] == 'modal' and (got[3] == 'running' or got[3] == 'delivering')
  if mine then
    local again_in_ms = call.again_in_ms
    local said_ms = tonumber(redis.call('HGET', attempt_key(call.id, got[1]), 'said_ended_ms') or nil)
    if said_ms then again_in_ms = math.min(again_in_ms, math.max(a.soon_ms, math.min(5000, (now_ms - said_ms) / 2))) end
    redis.call('ZREM', K('calls:claimed'), call.id)
    redis.call('ZADD', K('calls:due'), whole(now_ms + again_in_ms), call.id)
    if not is_null(call.progress) and call.progress > tonumber(got[4] or '0') then
      redis.call('HSET', job_key(call.id), 'progress', whole(call.progress))
    end
  else
    stale[#stale + 1] = call.id
  end
end
return reply({ outcome = 'released', stale = stale })
