--[[ A round of a duty went well, or failed. Shown are the time of the last one that went well, and how many failed since.
a: duty, failed?
-> noted, failed_rounds ]]
work_may_end()
local field = 'duty_failed|duty=' .. a.duty
if not a.failed then
  note_duty(a.duty)
  return reply({ outcome = 'noted', failed_rounds = 0 })
end
local rounds = tonumber(string.match(redis.call('HGET', K('gauges'), field) or '', '^(%d+) ') or '0') + 1
redis.call('HSET', K('gauges'), field, whole(rounds) .. ' ' .. whole(now_ms))
count('duty_failures_total', 'duty=' .. a.duty)
return reply({ outcome = 'noted', failed_rounds = rounds })
