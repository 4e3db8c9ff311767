"""The decision: where a job runs. Policies behind one small interface; dispatchers, maintenance and replay use them.

What lives here
    policy     the interface: `decide(job, view)` and `spill_state(kind, view)`, and what they may look at
    watermark  the simple policy and the reference: spill above a depth, stop below a lower one
    gpu        which GPU class a job needs on Modal, and what is reserved for it
    training   the policy of train jobs: own GPUs until the slack is used up, home again when that pays
    by_kind    a policy for each kind of job

What must hold
    Pure: no Redis, Celery, Modal, clock or random inside; time is in the view, settings are arguments. A policy
    advises; the ledger's script enforces the limits.

Who may come in
    workers.dispatch, workers.maintenance, whatif.
"""
