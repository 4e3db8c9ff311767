--[[ A follower is still busy with calls that it claimed (it brings their results to S3, say): it keeps them for longer.
A claim that has lapsed meanwhile is not brought back: somebody else may hold the call by now.
a: calls = [{id, attempt}], lease_ms
-> kept, lapsed = [id] ]]
work_may_end()
local lapsed = {}
for _, call in ipairs(a.calls) do
  local claim_ms = tonumber(redis.call('ZSCORE', K('calls:claimed'), call.id) or nil)
  if claim_ms and claim_ms > now_ms and redis.call('HGET', job_key(call.id), 'attempt') == whole(call.attempt) then
    redis.call('ZADD', K('calls:claimed'), whole(now_ms + a.lease_ms), call.id)
  else
    lapsed[#lapsed + 1] = call.id
  end
end
return reply({ outcome = 'kept', lapsed = lapsed })
