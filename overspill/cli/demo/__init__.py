"""`overspill demo`: twelve renders arrive at two in-house slots; what is too much for them runs on Modal.

`overspill demo-budget`: the same, and the budget runs out in the middle.

What lives here
    prompts   what is rendered
    burst     the requests, sent to the API as any client would
    picture   what is seen at one instant, and how it looks; reporters show it: a live table, or plain lines
    containers how many Modal containers live
    proof     that the videos are where they should be, and can be played
    verdict   the last line, and the exit code
    budget    the demo of the budget, and its verdict
    command   a stack of its own in a temporary folder, and `run` on it

What must hold
    Real parts only: the HTTP API, Celery, Redis, S3, Modal's SDK. No fixed port, nothing left running, on any path.
    Exit code 0 means that all twelve completed, some on each side, and that every video was fetched and decoded; of
    the budget's, that all completed or were refused for its sake, and that it was never passed.

Who may come in
    The command line.
"""

from overspill.cli.demo.command import demo, demo_budget

__all__ = ["demo", "demo_budget"]
