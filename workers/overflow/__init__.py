"""The overflow plane: what was placed on Modal is spawned, polled to its end, delivered, or cancelled and settled.

What lives here, in the order of a call's life
    wiring         how the parts are put together: what one process shares, and the duties that one follower leads
    spawner        writes the intent, spawns, records the call; many at once, below a rate that all workers share
    breaker        whether Modal is used at all: a pure machine, the gate that shares it, its probe
    follower       one process's loop: polls, cancellations and hints, with the sweeps and duties beside
    schedule       which calls are due, who holds them, when each is polled again (pure, but for the claims)
    hints          what calls send on their way: started, progress, done
    poller         polls one call, and does what follows from the answer
    classify       from what a poll or a spawn raised or returned to an outcome, by type, never by elapsed time (pure)
    completer      delivers the result of a call that has ended, or fails its attempt, and charges its containers
    usage          which containers a call is charged for, in the ledger's time (pure)
    reservations   tops up a call that outlasts its reservation, or says that the budget has no more
    canceller      cancels calls that nobody waits for any more, until they have ended, and settles them
    orphans        calls that nobody recorded: adopted, or cancelled
    containers     warm containers before a peak, idle windows that fit, idle containers that are gone already
    true_up        Modal's own bill, compared each night
    modal_sdk      the port to Modal, its implementation by the real SDK, and what is changed in the SDK

What must hold
    The intent is in the ledger before the call exists, the call's id right after. Any process may die in between: a
    call that nobody recorded is adopted or cancelled. A hint is never the truth: a lost one costs time. What a follower
    holds it has claimed in the ledger for a while, so any number of them share the work and may die. An error about
    one call, hint, announcement or GPU class does not reach the others. Never more than 50 requests that wait at once
    on one Modal client.

Who may come in
    tasks and workers.steps (wiring); workers.services (follower); the API and the exporter (breaker, which imports
    nothing of the SDK).
"""
