"""Which dashboards there are, and the files that are made of them."""

from collections.abc import Mapping
from pathlib import Path

from monitoring.dashboards import cost, kind, overview, spill, train
from monitoring.dashboards.build import as_json
from monitoring.dashboards.model import Dashboard

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
DASHBOARDS: tuple[Dashboard, ...] = (
    overview.DASHBOARD,
    spill.DASHBOARD,
    cost.DASHBOARD,
    kind.DASHBOARD,
    train.DASHBOARD,
)


def written() -> Mapping[Path, str]:
    """Every file, and its text."""
    return {FOLDER / f"{page.uid.removeprefix('overspill-')}.json": as_json(page) for page in DASHBOARDS}
