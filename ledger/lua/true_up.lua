--[[ Book the difference between Modal's billing report and what the ledger knows (docs/decisions/0004-true-up.md).
Compared is what containers used in the hours before `as_of_ms`, whenever it was booked, with what Modal billed for them;
so everything that was in use then must be settled. On demand (open) the present hour counts too: then only what cannot
be explained by what is in flight is booked.
needs: money
Key map
  P:true_up:<YYYY-MM>  hash  the month's last one: as_of_ms, at_ms, billed_usd_micros, used_usd_micros,
                             difference_usd_micros, who, open (0|1); kept for 14 months
What is booked goes to the day on which the report ends. On demand that is today, of which only so much is today's as
Modal billed today beyond what is booked today; the rest goes to yesterday, so that it moves no cap of the present day.
a: month, billed_usd_micros, billed_today_usd_micros? (with open), as_of_ms (a whole hour; with open: ignored), open, who
-> trued_up (difference_usd_micros, used_usd_micros) | same (this report was booked before) |
   too_early (settled_until_ms) | superseded (as_of_ms of a later one) ]]
must_be_numbers(a, { 'billed_usd_micros' })
local key = K('true_up:' .. a.month)
local last = redis.call('HMGET', key, 'as_of_ms', 'billed_usd_micros', 'open')
local as_of_ms = a.open and now_ms or a.as_of_ms

-- Until when everything that was in use is settled and booked.
local function settled_until()
  local until_ms = now_ms
  local function not_after(ms) if ms then until_ms = math.min(until_ms, tonumber(ms)) end end
  not_after(redis.call('ZRANGE', K('modal'), 0, 0, 'WITHSCORES')[2])
  for _, member in ipairs(redis.call('ZRANGE', K('cancels'), 0, -1)) do
    local id, n = string.match(member, '^(.*):(%d+)$')
    not_after(redis.call('HGET', attempt_key(id, n), 'placed_ms') or nil)
  end
  for _, id in ipairs(redis.call('ZRANGE', K('containers:idle'), 0, -1)) do
    local text = redis.call('HGET', K('containers'), id)
    if text then not_after(cjson.decode(text).booked_ms) end
  end
  return until_ms
end

if last[1] and tonumber(last[1]) > as_of_ms then return reply({ outcome = 'superseded', as_of_ms = tonumber(last[1]) }) end
if not a.open then
  if last[1] == whole(as_of_ms) and last[2] == whole(a.billed_usd_micros) then return reply({ outcome = 'same' }) end
  local until_ms = settled_until()
  if as_of_ms > until_ms then return reply({ outcome = 'too_early', settled_until_ms = until_ms }) end
end
local used, hours = 0, redis.call('HGETALL', K('hours:' .. a.month))
for i = 1, #hours, 2 do
  if a.open or hours[i] < hour_of(as_of_ms) then used = used + tonumber(hours[i + 1]) end
end
used = used + tonumber(redis.call('HGET', K('spend:' .. a.month), 'modal:component:true_up') or '0')
local difference = a.billed_usd_micros - used
if a.open then difference = math.max(0, difference - tonumber(redis.call('HGET', K('money'), 'reserved_usd_micros') or '0')) end
local day, yesterday, of_before = date_of(a.open and now_ms or as_of_ms - 1), date_of(now_ms - 86400000), 0
if a.open and not is_null(a.billed_today_usd_micros) and string.sub(yesterday, 1, 7) == a.month then
  local booked_today = tonumber(redis.call('HGET', K('spend:' .. a.month), 'modal:day:' .. day) or '0')
  of_before = difference - math.min(difference, math.max(0, a.billed_today_usd_micros - booked_today))
end
book('modal', { tenant = '-', kind = '-' }, '-', 'true_up', difference - of_before, 'true_up', day)
book('modal', { tenant = '-', kind = '-' }, '-', 'true_up', of_before, 'true_up', yesterday)
redis.call('HSET', key, 'as_of_ms', whole(as_of_ms), 'at_ms', whole(now_ms), 'billed_usd_micros', whole(a.billed_usd_micros),
  'used_usd_micros', whole(used), 'difference_usd_micros', whole(difference), 'who', a.who, 'open', a.open and '1' or '0')
redis.call('EXPIRE', key, MONEY_KEPT_S)
if difference ~= 0 then
  count('true_up_usd_micros_total', 'direction=' .. (difference > 0 and 'billed_more' or 'billed_less'), math.abs(difference))
end
note_duty('true_up')
money_event('money.true_up', a.month, whole(difference) .. ' micro-dollars by ' .. a.who)
return reply({ outcome = 'trued_up', difference_usd_micros = difference, used_usd_micros = used })
