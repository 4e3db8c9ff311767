"""The development stack: every part of the system as a process of its own, on loopback, for `overspill up` and `demo`.

What lives here
    leash, process       one process, with all its children, that cannot outlive us
    redis_service, s3_service, modal_service   what production has elsewhere: Redis, S3 and Modal, embedded
    procfile, supervisor the Procfile's processes, restarted with a growing pause when they die
    state_folder         where a stack keeps its data, its secrets and the environment that others load
    environment          what a process inherits from the shell that starts the stack
    readiness, probes    how a part shows that it is ready
    stack                all of it in order: services, deploy, processes, and only then `ready`

What must hold
    Nothing outlives its stack: not after stop(), not after Ctrl-C, not after SIGKILL of the process that started it.
    Ports are free ones, addresses are loopback, every service may be stopped twice.
    Production code does not know that it runs here; only settings differ.

Who may come in
    The CLI and the tests. No production room imports it; it reaches modal_local and the workers as processes only.
"""
