--[[ The kinds and GPU classes of which containers may idle now.
a: limit (containers looked at)
-> pools = ["<kind>:<gpu>"] ]]
local seen, pools = {}, {}
for _, id in ipairs(redis.call('ZRANGE', K('containers:idle'), 0, a.limit - 1)) do
  local text = redis.call('HGET', K('containers'), id)
  local c = text and cjson.decode(text)
  local name = c and c.kind and c.gpu and (c.kind .. ':' .. c.gpu)
  if name and not seen[name] then
    seen[name] = true
    pools[#pools + 1] = name
  end
end
return reply({ outcome = 'pools', pools = pools })
