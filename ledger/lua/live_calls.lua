--[[ Live Modal attempts, newest first, and how much is set aside for those that are being stopped already. Reads only.
a: limit
-> live, calls = [{id, attempt, kind, tenant, priority, placed_ms, reserved_usd_micros}], coming_back_usd_micros ]]
local calls, coming_back = {}, 0
local ids = redis.call('ZREVRANGE', K('modal'), 0, a.limit - 1, 'WITHSCORES')
for i = 1, #ids, 2 do
  -- (One that cannot be read is left out; whoever loads it puts it into quarantine.)
  local job = redis.pcall('HMGET', job_key(ids[i]), 'attempt', 'kind', 'tenant', 'priority')
  if tonumber(job[1] or nil) and KINDS[job[2]] and job[3] and tonumber(job[4] or nil) then
    calls[#calls + 1] = { id = ids[i], attempt = tonumber(job[1]), kind = job[2], tenant = job[3], priority = tonumber(job[4]),
      placed_ms = tonumber(ids[i + 1]),
      reserved_usd_micros = tonumber(redis.call('ZSCORE', K('reservations'), ids[i] .. ':' .. job[1]) or '0') }
  end
end
for _, member in ipairs(redis.call('ZRANGE', K('cancels'), 0, a.limit - 1)) do
  coming_back = coming_back + tonumber(redis.call('ZSCORE', K('reservations'), member) or '0')
end
return reply({ outcome = 'live', calls = calls, coming_back_usd_micros = coming_back })
