--[[ Compare the sums with their parts: dollars, reservations, indexes, counters. Reads only.
a: kinds, month_cap_usd_micros?, max_modal_attempts?
-> audited, violations = [{invariant, id, what}] ]]
local violations = {}
local function say(invariant, id, what) violations[#violations + 1] = { invariant = invariant, id = id, what = what } end

local reserved = 0
local parts = redis.call('ZRANGE', K('reservations'), 0, -1, 'WITHSCORES')
for i = 1, #parts, 2 do
  local id, n = string.match(parts[i], '^(.*):(%d+)$')
  reserved = reserved + tonumber(parts[i + 1])
  if not id then
    local container = string.match(parts[i], '^container:(.*)$')
    if not container or not redis.call('ZSCORE', K('containers:idle'), container) then
      say(4, '', parts[i] .. ' has a reservation that nobody will book')
    end
  elseif redis.call('HGET', attempt_key(id, n), 'settled') then say(4, id, 'attempt ' .. n .. ' is settled and still reserved') end
end
local money = redis.call('HMGET', K('money'), 'reserved_usd_micros', 'spent:modal:' .. month_of(now_ms))
local booked, spent = tonumber(money[1] or '0'), tonumber(money[2] or '0')
if booked ~= reserved then
  say(4, '', 'the reservations add up to ' .. whole(reserved) .. ' micro-dollars, booked are ' .. whole(booked))
end
if not is_null(a.month_cap_usd_micros) and booked + spent > a.month_cap_usd_micros then
  say(4, '', 'spent + reserved is ' .. whole(booked + spent) .. ' micro-dollars, the cap is ' .. whole(a.month_cap_usd_micros))
end
local alive = redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels'))
if not is_null(a.max_modal_attempts) and alive > a.max_modal_attempts then
  say(4, '', alive .. ' Modal attempts are alive, the cap is ' .. whole(a.max_modal_attempts))
end
for _, name in ipairs(working_indexes()) do
  for _, id in ipairs(redis.call('ZRANGE', K(name), 0, 9999)) do
    if redis.call('EXISTS', job_key(id)) == 0 then say(1, id, 'no such job, and still in ' .. name) end
  end
end
local counters = {}
local flat = redis.call('HGETALL', K('counters'))
for i = 1, #flat, 2 do counters[flat[i]] = tonumber(flat[i + 1]) end
for _, kind in ipairs(a.kinds) do
  local ended, submitted = 0, 0
  for name, value in pairs(counters) do
    if string.find(name, 'jobs_total|kind=' .. kind .. '|', 1, true) == 1 then ended = ended + value end
    if string.find(name, 'submitted_total|kind=' .. kind .. '|', 1, true) == 1 then submitted = submitted + value end
  end
  local retired = counters['retired_total|kind=' .. kind] or 0
  local done = redis.call('ZCARD', K('done:' .. kind))
  if ended ~= done + retired then
    say(7, '', kind .. ': ' .. ended .. ' ends were counted, ' .. done .. ' terminal jobs are kept and ' .. retired .. ' retired')
  end
  local kept = redis.call('ZCARD', K('jobs:' .. kind))
  if submitted ~= kept + retired then
    say(7, '', kind .. ': ' .. submitted .. ' submissions were counted, ' .. kept .. ' jobs are kept and ' .. retired .. ' retired')
  end
end
return reply({ outcome = 'audited', violations = violations })
