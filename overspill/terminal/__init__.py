"""What every command prints with, and how it fails and is interrupted.

What lives here
    console        standard output and standard error, one-line errors, JSON, the ledger that the environment names
    stop_signals   what SIGINT, SIGTERM and SIGHUP do to a command
    text           dollars, durations and names as people read them
    records        a job in a row, in a sentence, as JSON
    curves         a training run as a sparkline, in words, as log lines

What must hold
    Importing this room is cheap: no Redis, Celery, boto3 or Modal. `records`, `curves` and `text` are pure.

Who may come in
    The command line and the demos.
"""
