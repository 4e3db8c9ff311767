"""The overflow plane: what was placed on Modal is spawned, followed to its end, delivered, or stopped and settled.

What lives here
    calls      the port to Modal, and its one implementation by the real SDK
    endings    one classifier from what a call ended with to an outcome, by type and never by elapsed time
    spawner    writes the intent, spawns, records the call
    follower   looks at calls that are due, concludes those that ended, stops those that nobody wants

What must hold
    The intent is in the ledger before the call exists, the call's id right after. Any process may die in between; a
    call that nobody recorded is one to stop. Never more than 50 requests at once on one Modal client.

Who may come in
    tasks (spawner), workers.steps (follower).
"""
