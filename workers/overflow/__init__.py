"""The overflow plane: what was placed on Modal is spawned, followed to its end, delivered, or stopped and settled.

What lives here
    calls, sdk                 the port to Modal, and its one implementation by the real SDK
    bounded, origin            what is changed in the SDK: a bound on what it fetches, a mark on a call's own errors
    endings                    one classifier from what a call ended with to an outcome, by type, never by elapsed time
    spawner                    writes the intent, spawns, records the call; many at once, below a rate that all share
    breaker, gate, tending     whether Modal is used at all: a pure machine, its shared memory, who looks after it
    follower                   one process's loop: claims (what is due), looks, hints (what calls say of themselves),
                               stops, conclusions, exhaustion, topups, orphans (calls that nobody recorded)
    pacing, usage, forecast    pure: when to look again, what a call is charged for, how many containers a peak wants
    duties                     what one follower at a time does beside: idlewatch, warm, trueup

What must hold
    The intent is in the ledger before the call exists, the call's id right after. Any process may die in between; a
    call that nobody recorded is adopted or stopped. A hint is never the truth: a lost one costs time. What a follower
    holds it has claimed in the ledger for a while, so any number of them share the work and may die. Never more than
    50 requests that wait at once on one Modal client.

Who may come in
    tasks (spawner), workers.steps (follower).
"""
