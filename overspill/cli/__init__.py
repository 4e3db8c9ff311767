"""The command `overspill`: the stack on this machine, jobs in and out, and what is wrong with what.

What lives here
    app                       the command and its sub-commands; `main` is the entry point
    up                        `overspill up`: the development stack, until Ctrl-C
    jobs, train               submit, list, watch, cancel
    why/                      a job's life, explained
    top                       the system as it stands, drawn anew every second
    spill, budget, cost, calls  for operators: overrides, caps, what was spent, what is in flight
    doctor, checks/           what each dependency must be, and how to mend it
    options                   arguments and options that several commands share

What must hold
    A foreseeable mistake is one sentence on stderr and exit code 1 (2 for wrong usage), never a traceback.
    Stdout carries results (`--json` for programs); progress and remarks go to stderr.
    Whatever changes something is an event in the ledger, with who and why. People read dollars, programs micro-dollars.
    Heavy modules are imported by the command that needs them: `overspill --help` imports no Celery, boto3 or av.

Who may come in
    Nobody: it is the outermost room.
"""

from overspill.cli.app import main

__all__ = ["main"]
