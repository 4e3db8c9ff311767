"""The chaos suite: the whole stack as processes, jobs through every door, faults at random times, and then the count.

    python -m tests.chaos --seed 7 --jobs 1000 --faults 200

What lives here
    plan          pure: a seed, jobs and faults become a list of timed steps; the same seed, the same list
    stack         the development stack with several of each process, and proxies before Redis and S3
    submitter     sends the planned jobs through the API, `submit()` and bare Celery; remembers what was accepted
    records       queued jobs as another version would have written them
    victims, injector   find what a planned fault strikes, strike it, and say what was struck
    observations  what Redis, S3 and modal_local hold at the end, read raw
    checks, bill, recovery   pure: what must hold, what it cost, how long recovery took
    report, run   tables and the last line; all of it in order

What must hold
    The checks read keys, objects and records themselves, and use no code of the rooms that they check (`audit()`
    aside, which is asked as one check among others). Which faults are injected, and how many, never depends on timing:
    a fault whose victim is away waits for it. A fault that never found one is a failure of the run, not a smaller run.

Who may come in
    `make chaos`, and test_chaos_short.py for a short form of the same.
"""
