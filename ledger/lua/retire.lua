--[[ Forget jobs that ended long ago, whole: record, attempts, events, receipts, indexes. What they have left in stores is
noted for deletion by the same script.
The number of attempts that a record claims is not believed: attempts go from the newest down, at most `budget` of them in
one call, and the job's own record, whose `retire_from` says how far that has come, goes last. A job of which a call is
still to be stopped, or dollars are still set aside, is kept until that is settled.
needs: deleting
a: kind, older_than_ms (since its end), limit, skip (jobs at the front that are known to be kept), budget (attempts),
   bucket, on_volume (whether train jobs may have left files on Modal's volume)
-> retired, ids, kept (how many must stay for now), more (whether another call finds more to do) ]]
-- No setting allows a thousandth of it.
local MOST_ATTEMPTS = 1e7

local function attempts_left(attempt, retire_from)
  local n = tonumber(retire_from or attempt or nil) or 0
  if n ~= n or n < 1 then return 0 end
  return math.floor(math.min(n, MOST_ATTEMPTS))
end

-- Drops attempts from the n-th down, at most `most`; stops before one that is not settled. Returns the newest that is left,
-- and whether that is not settled. (Each command takes many: one by one they are several times as slow.)
local function drop_attempts(id, n, most)
  while n >= 1 and most > 0 do
    local members, keys = {}, {}
    for i = 1, math.min(n, most, 500) do
      local number = whole(n - i + 1)
      members[i], keys[i] = id .. ':' .. number, attempt_key(id, number)
    end
    local stopping = redis.call('ZMSCORE', K('cancels'), unpack(members))
    local reserved = redis.call('ZMSCORE', K('reservations'), unpack(members))
    for i = 1, #members do
      if stopping[i] or reserved[i] then
        if i > 1 then redis.call('UNLINK', unpack(keys, 1, i - 1)) end
        return n - i + 1, true
      end
    end
    redis.call('UNLINK', unpack(keys))
    n, most = n - #keys, most - #keys
  end
  return n, false
end

local function delete_artifact_later(text, folder)
  local ok, artifact = pcall(cjson.decode, text)
  if not ok or type(artifact) ~= 'table' or type(artifact.bucket) ~= 'string' then return end
  if artifact.bucket ~= a.bucket then delete_later('s3', 'folder ' .. artifact.bucket .. ' ' .. folder) end
  for _, key in pairs({ artifact.key, artifact.thumbnail_key }) do
    if type(key) == 'string' and string.sub(key, 1, #folder) ~= folder then
      delete_later('s3', 'object ' .. artifact.bucket .. ' ' .. key)
    end
  end
end

work_may_end()
local ids, kept, budget, more = {}, 0, a.budget, false
local before = whole(now_ms - a.older_than_ms)
local page = redis.call('ZRANGEBYSCORE', K('done:' .. a.kind), '-inf', before, 'LIMIT', a.skip, a.limit)
for _, id in ipairs(page) do
  if budget <= 0 then
    more = true
    break
  end
  local got = redis.pcall('HMGET', job_key(id), 'attempt', 'tenant', 'artifact', 'retire_from')
  if got.err then got = {} end
  local newest = attempts_left(got[1], got[4])
  local n, unsettled = drop_attempts(id, newest, budget)
  budget = budget - (newest - n)
  if n >= 1 then
    if n < newest then redis.call('HSET', job_key(id), 'retire_from', whole(n)) end
    if unsettled then kept = kept + 1 else more = true end
  else
    redis.call('UNLINK', job_key(id), K('history:' .. id), K('receipts:' .. id), K('train:' .. id))
    redis.call('ZREM', K('done:' .. a.kind), id)
    redis.call('ZREM', K('jobs:' .. a.kind), id)
    redis.call('HDEL', K('quarantine'), id)
    if got[2] then redis.call('ZREM', K('tenant:' .. got[2] .. ':' .. a.kind), id) end
    local folder = a.kind .. '/' .. id .. '/'
    delete_later('s3', 'folder ' .. a.bucket .. ' ' .. folder)
    if got[3] then delete_artifact_later(got[3], folder) end
    if a.kind == 'train' and a.on_volume then delete_later('volume', 'job ' .. id) end
    count('retired_total', 'kind=' .. a.kind)
    ids[#ids + 1] = id
  end
  budget = budget - 1
end
return reply({ outcome = 'retired', ids = ids, kept = kept, more = more or #page == a.limit })
