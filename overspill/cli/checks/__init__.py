"""What each dependency must be, and how it is mended when it is not.

What lives here
    finding     what a check says
    machine     this machine: Python, programs, codecs, settings
    redis       the ledger's Redis and the broker's
    outside     S3, Modal, and our own workers
    money       the budget, whether anything may spill, and whether our prices are Modal's
    examine     all of them, in the order in which they depend on each other

What must hold
    A check answers within seconds, changes nothing (S3's writes and removes one small object), and never raises for a
    dependency that is away: that is its finding.

Who may come in
    `overspill doctor`.
"""
