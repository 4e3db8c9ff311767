"""Who runs and decides: the Celery app, the dispatchers, the GPU workers, the overflow workers, maintenance.

What lives here
    app                                  how a worker process is made
    placement/                           the decision: pure functions, no Redis, Celery, Modal, clock or random
    dispatch                             claims queued jobs, asks the policy, commits its decisions
    attempt/                             one in-house attempt: claimed, run under a lease, watched, ended
    inhouse, rendering, training/        what a GPU worker does with a nudge, by the kind of the job
    overflow/                            spawns Modal calls, follows them to their end, stops them
    delivery                             puts a result into S3 and publishes it
    maintenance/                         what is done again and again so that nothing is forgotten
    steps, services                      what runs beside the tasks in a worker process, started and stopped with it
    isolation                            one job's trouble stops no other
    consumer, transport, dropped         messages that cannot be taken

What must hold
    The ledger is asked before anything is done and told after: a process may die between any two lines.
    Workers reach tasks by name only.

Who may come in
    tasks, api, monitoring and the CLI. Workers import infra, ledger, modal_apps and engines.
"""
