--[[ Put a value into a histogram that is no transition's (a spawn's seconds, a lag).
a: metric, labels, value
-> observed ]]
observe(a.metric, a.labels, a.value)
return reply({ outcome = 'observed' })
