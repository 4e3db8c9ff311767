"""Monitoring: the exporter, recording and alert rules with their tests, dashboards, alert delivery.

What lives here
    catalogue        every metric: name, type, help, labels, unit; docs/monitoring.md is made from it
    alerting/        service levels, recording rules and alerts, in code; `python -m monitoring.alerting` writes files
    documentation    the parts of docs/monitoring.md that are made from the code
    exporter/        reads the ledger at each scrape and serves it: `python -m monitoring.exporter`
    reconcile        compares the counters with the ledger's own records, exactly
    dashboards/      the Grafana dashboards in code: `python -m monitoring.dashboards` writes their JSON
    prometheus/      rules/ (written), their tests/, the configurations of Prometheus and Alertmanager
    flower           the Celery app that Flower runs on
    grafana/         what Grafana is provisioned with: dashboards, data source, alert rules

What must hold
    Metrics are read from the ledger, where they are raised in the same script as the transition that they count, so
    they cannot disagree with it and survive any process. Nothing here writes to the ledger.
    A scrape reads a bounded number of entries, however many jobs there are; every label has a bounded set of values.

Who may come in
    Nobody: this room imports the ledger and the workers' settings, and is imported by none but the CLI.
"""
