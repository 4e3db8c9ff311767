"""One in-house attempt: claimed, run under a lease, watched, and ended, whatever the kind of its job.

What lives here
    runner        the pipeline: claim an attempt, run its engine, deliver or say what failed
    results       how the run of an engine ended, as values
    ending        the one place that ends an in-house attempt: it completes, or it fails
    slots         memory that the worker's processes share: who runs which attempt, and how far it is
    heartbeat     the running process's side of it: notes progress, hears that the attempt is lost
    monitor       the main process's side: renews leases, kills what hangs, gives up what died
    process_tree  stops a process, and kills it with everything that it started
    drain         a worker that is asked to stop requeues a run that does not save in time
    oom_kills     whether the kernel killed a process for memory

How an attempt is kept, and how a hang ends
    A GPU worker is a main process (Celery's consumer) and a pool of processes, one for each slot; an engine runs in a
    pool process. That process may stop to run at any point, and may hold Python's interpreter lock while it does: no
    thread of its own can be trusted to tell. So it only writes down, in shared memory, which attempt it has, a count
    that rises with each progress, and for how long it may be silent. Everything else is done by the main process, whose
    interpreter no engine can hold: it renews the lease in Redis while the attempt keeps within its clocks, and tells
    the pool process through the same memory when the lease is lost.

    An attempt has two clocks. The progress clock starts again with each progress; before the first one it is longer
    (a model is loaded, a step is compiled), and it rests while the attempt waits for S3, whose requests have timeouts
    and a patience of their own. The wall clock runs from the attempt's start and never rests. For a train job it
    comes from the run's own size where its speed is known. A delivery has one bound for all of it. Both clocks are
    the monitor's, and count only the time in which the monitor itself ran: a host that was suspended has no hung
    attempts.

    When a clock runs out, the monitor stops the process (SIGSTOP), and looks again: a process that has just finished,
    or has taken another attempt, goes on. One that has not is killed with everything that it started, descendants
    first, and its attempt ends as `timeout`. Celery replaces the process: the slot is free. Celery also reports the
    death; the monitor remembers why, so that both reports say the same, and the ledger takes whichever comes first. A
    process that dies by itself is reported by Celery, with the signal that it was; its lease is kept for the seconds
    that this takes, and after them the monitor ends the attempt itself.

What must hold
    An attempt's lease lasts no longer than its process keeps within its clocks, and its main process lives.
    The fencing token decides: an attempt that ended meanwhile changes nothing, whoever speaks for it.
    Shared memory has no lock: whoever holds one may be killed.

Who may come in
    workers.inhouse (runner), workers.steps (monitor), workers.rendering and workers.training, which run the engines,
    and workers.overflow, whose attempts are requeued alike (`ending.after_failure`). It imports none of these: what
    runs a kind of job is given to it.
"""
