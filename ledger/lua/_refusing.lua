--[[ The hard limits on Modal: whether one more attempt may go there now. Reads only.
needs: settling
]]
-- Who may not spill at all: an operator said so, or Modal is not to be used now.
local function stop_refusal()
  local override = redis.call('HMGET', K('override'), 'mode', 'until_ms')
  if override[1] == 'off' and (tonumber(override[2] or nil) or now_ms + 1) > now_ms then return 'spill_off' end
  if redis.call('HGET', K('breaker'), 'phase') == 'open' then return 'breaker_open' end
  return nil
end

-- The cap on what is alive at once that one more attempt would pass. It takes an idle container if there is one,
-- or one that is kept warm.
local function burn_refusal(d, warm)
  local caps = limits_of({ 'hour_rate', 'gpus', 'containers', 'attempts' })
  local got = redis.call('HMGET', K('money'), 'rate_nanos_per_s', 'gpus', 'idle_free')
  local rate, gpus, idle = tonumber(got[1] or '0'), tonumber(got[2] or '0'), tonumber(got[3] or '0')
  local calls = redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels'))
  rate, gpus = rate + d.usd_nanos_per_s, gpus + gpus_of(d.gpu)
  if warm then rate, gpus, idle = rate - warm.rate, gpus - gpus_of(warm.gpu), idle - 1 end
  if caps.hour_rate and rate * 3.6 > caps.hour_rate then return 'hour_rate' end
  if caps.gpus and gpus > caps.gpus then return 'gpus_at_cap' end
  if caps.containers and calls + 1 + idle > caps.containers then return 'containers_at_cap' end
  if calls >= caps.attempts then return 'modal_calls_at_cap' end
  return nil
end

-- The limit that keeps a job off Modal, or nil; and the budget that has ended with it, if one has (say_ended).
-- d: gpu, usd_nanos_per_s, reserve_usd_micros; warm: the idle container that it would take.
local function modal_refusal(job, d, warm)
  local stop = stop_refusal()
  if stop then return stop end
  local reason, ended = dollar_refusal(job, d.reserve_usd_micros, tonumber(job.priority))
  if reason then return reason, ended end
  return burn_refusal(d, warm or kept_container(job.kind, d.gpu))
end
