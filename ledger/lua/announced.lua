--[[ Calls say that they work on attempts: which of them does the ledger know? Reads only, so a page costs little.
a: calls = [{id, attempt, call_id}]
-> compared, standings = [live (the attempt's own call, not over) | settled (its books are closed) | unrecorded] ]]
local standings = {}
for i, call in ipairs(a.calls) do
  local at = redis.call('HMGET', attempt_key(call.id, whole(call.attempt)), 'call_id', 'settled')
  standings[i] = at[1] ~= call.call_id and 'unrecorded' or at[2] and 'settled' or 'live'
end
return reply({ outcome = 'compared', standings = standings })
