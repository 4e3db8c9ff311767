--[[ A duty was done, and went well: what is shown of it is how long ago.
a: duty
-> noted ]]
work_may_end()
note_duty(a.duty)
return reply({ outcome = 'noted' })
