--[[ Raise a counter for something that is no transition (a message dropped, a call refused).
a: metric, labels, by
-> counted ]]
count(a.metric, a.labels, a.by)
return reply({ outcome = 'counted' })
