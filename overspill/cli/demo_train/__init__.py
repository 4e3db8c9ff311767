"""`overspill demo-train`: train, be struck, go on, and render with what was trained, in under four minutes on a CPU.

What lives here
    runs      what is trained and rendered, and with which settings
    strike    the preemption: a worker or a container is killed
    run       the demo itself, on a stack that the command has made
    verdict   the last line, and the exit code
    command   a stack of its own in a temporary folder, and `run` on it

What must hold
    Real parts only: the ledger, Celery, Redis, S3, Modal's SDK, PyTorch. No fixed port, nothing left running, on any
    path. Every figure of the last line was measured in this very run.

Who may come in
    The command line.
"""

from overspill.cli.demo_train.command import demo_train

__all__ = ["demo_train"]
