--[[ Reservations that nobody will settle: their attempt is neither live nor one to stop. They are given back.
There should be none, ever; this is the belt to the scripts' braces, and each one is counted.
needs: settling
a: limit, after (how many were looked at before)
-> swept, ids, scanned ]]
local ids = {}
local members = redis.call('ZRANGE', K('reservations'), a.after, a.after + a.limit - 1)
for _, member in ipairs(members) do
  local id, n = string.match(member, '^(.*):(%d+)$')
  local job = id and load(id)
  local live = job and job.attempt == n
    and (job.state == 'placed' or job.state == 'running' or job.state == 'delivering')
  -- (A container's tail is no attempt's: it is booked when its time is over.)
  if id and not live and not redis.call('ZSCORE', K('cancels'), member) then
    -- The attempt knows whose it was, should the job's record be unreadable.
    local of = redis.call('HMGET', attempt_key(id, n), 'tenant', 'kind')
    local who = job or { id = id, tenant = of[1] or '', kind = of[2] or '' }
    settle(who, n, 0)
    reserve(member, who, 0)
    count('stray_reservations_total', 'reason=no_live_attempt')
    ids[#ids + 1] = member
  end
end
return reply({ outcome = 'swept', ids = ids, scanned = #members })
