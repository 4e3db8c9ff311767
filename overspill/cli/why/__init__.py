"""`overspill why JOB`: a job's life in plain words, from its receipts, its events and its attempts.

What lives here
    words     rules, signals, causes and errors, each as a person says it
    life      what the ledger knows of one job, put in order: steps, each with the receipt that explains it
    tries     its attempts: where, how long, what each cost by component, how each ended
    look      how all that looks
    command   the command

What must hold
    Nothing is guessed: what is said stands in the ledger, and what has no words of its own is shown as it stands there.
    Everything but `command` is pure.

Who may come in
    The command line.
"""

from overspill.cli.why.command import why

__all__ = ["why"]
