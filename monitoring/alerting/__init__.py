"""Recording rules and alerts, in code: one source for Prometheus, for Grafana's own alerting, and for the runbook.

What lives here
    model        a recording rule, an alert, a group: frozen
    objectives   the service levels and how fast their error budgets burn
    jobs, modal, money, system   the alerts by subject
    render       as YAML for Prometheus, as provisioning for Grafana; with short windows for tests

`python -m monitoring.alerting` writes prometheus/rules/*.yml and grafana/provisioning/alerting/rules.yml.

What must hold
    Every alert has a promtool test that it fires and one that it stays quiet (prometheus/tests/), and a section in
    docs/runbook.md. A test keeps the files current.
"""
