"""Who watches: the exporter, alert rules with their tests, dashboards, the cost report.

What must hold
    Metrics are read from the ledger, where they are raised in the same script as the transition that they count, so
    they cannot disagree with it and survive any process.

Who may come in
    Nobody: this room imports the ledger and the workers' settings, and is imported by none.
"""
