"""What each dependency must be, and how to mend it.

What lives here
    finding     what a check reports
    machine     this machine: Python, programs, codecs, settings
    services    Redis, S3 and Modal, our own slots and queues
    money       the budget, whether anything may spill, and whether our prices are Modal's

What must hold
    A check answers within seconds and changes nothing (S3's writes and removes one small object). A dependency that is
    away is a finding, never an exception.

Who may come in
    `overspill doctor`, which runs the checks in the order in which they depend on each other.
"""
