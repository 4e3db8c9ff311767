--[[ Objects to be deleted: a durable list for each store, written in the script that drops the last pointer to them, and
drained until the store has confirmed each (ledger/deletions.py has the forms of an entry).

Key map
  P:deletions:<store>         zset  entry, score = when it is due; a worker's claim moves it on
  P:deletions:<store>:failed  hash  entry -> how often the store did not delete it
]]
-- An entry that is noted while somebody works on it stays: what was put meanwhile is deleted, too.
local function delete_later(store, entry)
  redis.call('ZADD', K('deletions:' .. store), whole(now_ms), entry)
end
