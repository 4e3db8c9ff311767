--[[ The limits in force: read them, change some, or fill those that are empty.
needs: money
a: change? ({name -> text}), given? ({name -> text}: fills what is empty), who, why
-> limits (limits = {name -> text}, changes = [{name, was, now}]) ]]
local HISTORY_KEPT = 10000

local function unit_of(name)
  local kind = string.match(name, '^kind:(.*)$')
  if kind then return KINDS[kind] and 'usd_micros' or nil end
  return string.match(name, '^tenant:[a-z0-9][a-z0-9_.-]*$') and 'usd_micros' or LIMIT_UNITS[name]
end

-- What is wrong with a limit, or nil.
local function wrong(name, text)
  local unit = unit_of(name)
  if not unit then return 'no limit has the name ' .. name end
  if text == 'none' then return LIMIT_NEEDED[name] and name .. ' cannot be absent' or nil end
  if text == 'default' then return not string.match(name, '^tenant:') and name .. ' has no default of its own' or nil end
  local value, bounds = tonumber(text), LIMIT_BOUNDS[unit]
  if not value or not (value >= bounds[1] and value <= bounds[2]) then return name .. ' cannot be ' .. text end
  return unit ~= 'ratio' and value ~= math.floor(value) and name .. ' must be whole' or nil
end

local function checked(texts)
  local names = {}
  for name, text in pairs(is_null(texts) and {} or texts) do
    local error_text = wrong(name, text)
    if error_text then error({ err = 'WRONG limit: ' .. error_text }, 0) end
    names[#names + 1] = name
  end
  table.sort(names)
  return names
end

local to_change, to_fill, changes = checked(a.change), checked(a.given), {}

local function change(name, text)
  local was = redis.call('HGET', K('limits'), name)
  if was == text then return end
  redis.call('HSET', K('limits'), name, text)
  changes[#changes + 1] = { name = name, was = was or cjson.null, now = text }
  redis.call('RPUSH', K('limits:history'), cjson.encode({ at_ms = now_ms, name = name, was = was or cjson.null, now = text,
    who = a.who, why = a.why }))
  money_event('budget.limit', name, (was or 'empty') .. ' -> ' .. text .. ' by ' .. a.who .. ': ' .. a.why)
end

for _, name in ipairs(to_change) do change(name, a.change[name]) end
for _, name in ipairs(to_fill) do
  if redis.call('HEXISTS', K('limits'), name) == 0 then change(name, a.given[name]) end
end
if #changes > 0 then redis.call('LTRIM', K('limits:history'), -HISTORY_KEPT, -1) end
if not is_null(a.given) then
  redis.call('HSET', K('limits'), 'filled_ms', whole(now_ms))
  -- (What an earlier version kept: the caps that the last placement was made under.)
  redis.call('DEL', K('caps'))
end
local limits, flat = {}, redis.call('HGETALL', K('limits'))
for i = 1, #flat, 2 do limits[flat[i]] = flat[i + 1] end
return reply({ outcome = 'limits', limits = limits, changes = changes })
