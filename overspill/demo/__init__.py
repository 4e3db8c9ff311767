"""The three demos: real parts on loopback, from an empty folder to one last line that a script can read.

`overspill demo`: twelve renders arrive at two in-house slots; what is too much for them runs on Modal (a local one).
`overspill demo-budget`: the same burst, and the budget runs out in the middle.
`overspill demo-train`: train on both pools, kill a container, resume, and render with what was trained.

What lives here
    command      the three commands: a stack in a temporary folder, a demo on it, the last line, the exit code
    render       the demo of the overflow, and its verdict
    budget       the demo of the budget, and its verdict
    train        the demo of training, and its verdict
    burst        the render requests, sent to the API as any client would
    picture      the jobs at one instant: a live table, or plain lines
    containers   the count of live Modal containers
    proof        that a video is in S3 and can be decoded

What must hold
    Real parts only: the HTTP API, the ledger, Celery, Redis, S3, Modal's SDK, PyTorch. No fixed port. Nothing is left
    running, on any path. Every figure of the last line was measured in this run.
    Exit code 0 of `demo`: all twelve completed, some in each pool, and every video was fetched and decoded. Of
    `demo-budget`: each job completed or was refused for the budget's sake, and the cap was never passed. Of
    `demo-train`: the bounds of accuracy were reached, and the killed run resumed and completed.

Who may come in
    The command line.
"""
