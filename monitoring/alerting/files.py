"""Which files are made from this room, and what is in them."""

from collections.abc import Mapping
from pathlib import Path

from monitoring.alerting import jobs, modal, money, objectives, system
from monitoring.alerting.model import Alert
from monitoring.alerting.render import as_grafana, as_prometheus

_HERE = Path(__file__).parents[1]
RULES = _HERE / "prometheus" / "rules"
GRAFANA = _HERE / "grafana" / "provisioning" / "alerting" / "rules.yml"

GROUPS = (jobs.GROUP, modal.GROUP, money.GROUP, objectives.GROUP, system.GROUP)


def alerts() -> tuple[Alert, ...]:
    """Every alert."""
    return tuple(alert for group in GROUPS for alert in group.alerts)


def written() -> Mapping[Path, str]:
    """Every file, and its text."""
    return {RULES / f"{group.name}.yml": as_prometheus(group) for group in GROUPS} | {GRAFANA: as_grafana(GROUPS)}
