"""The exporter: reads the ledger and the two Redis servers at each scrape, and serves the result.

What lives here
    settings    where it listens, how long it waits
    reading     the reads of one scrape: one script on the ledger, one pipeline on the broker, INFO of both
    families    from what was read to metrics, by the catalogue: pure
    budgets     from the ledger's money to dollars under a cap: pure
    server      HTTP: /metrics and /healthz

What must hold
    It keeps no state between two scrapes: replicas agree, and a restart loses nothing.
    A Redis that is away is a metric (`overspill_up 0`), answered within the timeout, and never an error page.
"""
