"""Maintenance: what is done again and again so that nothing is forgotten. A service for each duty.

What lives here
    wiring        which duties a process can do, with what they need
    duties        the names of the duties, how often each is done, and how long a round of it may take
    service       one duty in a thread of its own: leader lease, error boundary, health; and all of a process together
    repair        what mends after a loss: expired leases, held jobs that are due, overdue nudges, the state of spilling
    money         idle tails that are over, reservations that nobody would settle
    budget        the last staged action: calls of low priority are cancelled when a budget is spent
    recall        train jobs that wait for own GPUs and should go to Modal now
    retirement    ended jobs are forgotten after their retention
    deletions     objects in S3 to which nothing points any more are deleted, until S3 has confirmed each
    pruning       the same of what retired train jobs have left on Modal's volume

What must hold
    A duty that hangs, fails or waits for a store delays no other: each has its own thread, and they share no lock.
    A round is bounded, and harmless if two processes do it at once: each step is one script of the ledger. The lease
    only saves work. A leader that dies or hangs is followed when its lease ends: `lease_s` in duties.py.
    A round that fails is logged and counted, and the next one comes. Health is in the ledger, not in the process: the
    time of the last round that went well, and how many have failed since.
    What a duty has not finished is in the ledger, never only in memory: a restart loses nothing.

Who may come in
    workers.steps, which starts `Maintenance` in dispatch and overflow workers.
"""
