--[[ Reservations that nobody will settle: their attempt is neither live nor one to stop. They are given back.
There should be none, ever; this is the belt to the scripts' braces, and each one is counted. Each reservation is checked
once in a while, when its time in P:reservations:check has come, so a call is bounded and none is passed over.
needs: settling
a: limit
-> checked, ids (of those that were given back), checked (how many) ]]
work_may_end()
local ids = {}
local members = redis.call('ZRANGEBYSCORE', K('reservations:check'), '-inf', whole(now_ms), 'LIMIT', 0, a.limit)
for _, member in ipairs(members) do
  redis.call('ZADD', K('reservations:check'), whole(now_ms + RESERVATION_CHECK_MS), member)
  local id, n = string.match(member, '^(.*):(%d+)$')
  local job = load(id)
  local live = job and job.attempt == n
    and (job.state == 'placed' or job.state == 'running' or job.state == 'delivering')
  if not live and not redis.call('ZSCORE', K('cancels'), member) then
    local owner = owner_of_unreadable(id, n)
    if not job and owner and redis.call('HEXISTS', K('quarantine'), id) == 1 then
      -- The call of a job in quarantine may run: it is stopped, and its end settles what it cost.
      must_stop(owner, n)
    else
      local who = job or owner or { id = id, tenant = '', kind = '', unreadable = true }
      settle(who, n, 0)
      reserve(member, who, 0)
      count('leaked_reservations_total', 'reason=no_live_attempt')
      ids[#ids + 1] = member
    end
  end
end
return reply({ outcome = 'checked', ids = ids, checked = #members })
