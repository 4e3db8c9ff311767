--[[ Objects to which nothing points are to be deleted.
needs: deleting
a: store, entries
-> noted ]]
work_may_end()
for _, entry in ipairs(a.entries) do delete_later(a.store, entry) end
return reply({ outcome = 'noted' })
