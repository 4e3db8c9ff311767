--[[ Note the present value of something, with the time. What was not noted for long is no longer shown by the exporter.
a: metric, labels, value
-> noted ]]
redis.call('HSET', K('gauges'), a.metric .. '|' .. a.labels, string.format('%.17g ', a.value) .. whole(now_ms))
return reply({ outcome = 'noted' })
