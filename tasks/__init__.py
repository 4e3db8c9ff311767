"""How Celery calls it: every Celery task of the system, thin, by the names that other services use.

What lives here
    render, train   what other services enqueue: `tasks.render`, `tasks.train`
    nudges          what we send to ourselves: `tasks.dispatch`, `tasks.run_inhouse`, `tasks.spawn_overflow`

What must hold
    A task says nothing that the ledger does not know: lost, doubled or reordered, a message changes only timing. A
    message that makes no sense is logged, counted and dropped, and the worker lives on. A task's result names the
    job, so that Flower shows who ran what.

Who may come in
    Celery. Our own code sends these tasks by name.
"""
