"""The command `overspill`: the stack on this machine, jobs in and out, and what is wrong with what.

What lives here
    app            the command and its sub-commands; `main` is the entry point
    surroundings   which stack a command speaks to, how it prints, how it fails
    up, stopping   `overspill up`, and what Ctrl-C means to whoever holds a stack
    jobs, records  submit, jobs, watch, cancel; what is said of a job
    why/           a job's life in plain words
    top/           the system as it stands, drawn anew every second
    steering/      the operator's hand: budget, cost, spill, calls, prewarm
    doctor, checks/ what each dependency must be, and how it is mended
    demo/          twelve renders, two slots, the rest on Modal; and the same under a budget that runs out

What must hold
    A foreseeable mistake is one sentence on stderr and exit code 1 (2 for wrong usage), never a traceback.
    What a program reads is on stdout (`--json` where that is more than a word); what a person reads meanwhile, stderr.
    Heavy modules are imported by the command that needs them: `overspill --help` imports no Celery, boto3 or av.

Who may come in
    Nobody: it is the outermost room.
"""

from overspill.cli.app import main

__all__ = ["main"]
