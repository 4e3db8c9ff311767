"""The Grafana dashboards, in code: `python -m monitoring.dashboards` writes grafana/dashboards/*.json.

What lives here
    model      a panel, a row, a dashboard: what is shown, and by which queries
    overview, spill, cost, kind, train   the dashboards
    build      by grafana-foundation-sdk, Grafana's own builders, to the JSON that Grafana reads
    files      which files are made; a test keeps them current

What must hold
    Every query's metrics are in the catalogue, and every query returns data from a real Prometheus that scraped the
    real exporter (tests/integration/monitoring). The SDK is needed to write the files, never to run anything.
"""
