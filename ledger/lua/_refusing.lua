--[[ The hard limits on Modal: whether one more attempt may go there now. By asking nothing is
changed but the stage of a budget that is found at its end (dollar_refusal).
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
local function burn_refusal(d, caps, warm)
  local got = redis.call('HMGET', K('money'), 'rate_nanos_per_s', 'gpus', 'idle_free')
  local rate, gpus, idle = tonumber(got[1] or '0'), tonumber(got[2] or '0'), tonumber(got[3] or '0')
  local calls = redis.call('ZCARD', K('modal')) + redis.call('ZCARD', K('cancels'))
  rate, gpus = rate + d.usd_nanos_per_s, gpus + gpus_of(d.gpu)
  if warm then rate, gpus, idle = rate - warm.rate, gpus - gpus_of(warm.gpu), idle - 1 end
  if not is_null(caps.hour_rate) and rate * 3.6 > caps.hour_rate then return 'hour_rate' end
  if not is_null(caps.gpus) and gpus > caps.gpus then return 'gpus_at_cap' end
  if not is_null(caps.containers) and calls + 1 + idle > caps.containers then return 'containers_at_cap' end
  if calls >= caps.calls then return 'modal_calls_at_cap' end
  return nil
end

-- The limit that keeps a job off Modal, or nil. d: gpu, usd_nanos_per_s, reserve_usd_micros; warm: the idle container
-- that it would take.
local function modal_refusal(job, d, caps, warm)
  return stop_refusal() or dollar_refusal(job, caps, d.reserve_usd_micros, tonumber(job.priority))
    or burn_refusal(d, caps, warm or kept_container(job.kind, d.gpu))
end
