--[[ A record that Python could not read is taken out of every queue, with the reason; the rest goes on.
a: id, why
-> quarantined ]]
work_may_end()
quarantine(a.id, a.why)
return reply({ outcome = 'quarantined' })
