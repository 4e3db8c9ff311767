--[[ End a job at the user's wish, from any state. A Modal call that may be running is handed to the followers to stop.
needs: settling
a: id, reason
-> cancelled | already_terminal (state) | unknown ]]
work_may_end()
local job = load(a.id)
if not job then return reply({ outcome = 'unknown' }) end
if TERMINAL[job.state] then return reply({ outcome = 'already_terminal', state = job.state }) end
must_be_legal(job, 'cancelled')
local n, was, pool = job.attempt, job.state, job.pool
-- While it is placed on Modal, a lease says that somebody is spawning it: the call may exist before its id is known.
local spawning = was == 'placed' and pool == 'modal' and redis.call('ZSCORE', K('leases'), a.id)
local had_attempt = was == 'placed' or was == 'running' or was == 'delivering'
if had_attempt then end_attempt(job, 'cancelled') end
transition(job, 'cancelled', { error_code = 'cancelled', error_message = a.reason }, a.reason)
if had_attempt then
  if pool == 'modal' and (was ~= 'placed' or spawning) then
    must_stop(job, n)
  else
    settle(job, n, 0)
  end
end
return reply({ outcome = 'cancelled', state = was })
