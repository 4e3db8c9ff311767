"""What would have been: the replay of a trace through the same placement code, bounds, capacity and budget plans.

What must hold
    It decides with `workers.placement` itself, never with a copy.

Who may come in
    The CLI. This room imports `workers.placement` and the ledger's pure words.
"""
