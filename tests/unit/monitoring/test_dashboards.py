"""The dashboards as files: current, sound, and asking for what there is."""

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from monitoring.alerting.files import GRAFANA, GROUPS, alerts
from monitoring.alerting.render import DATASOURCE_UID
from monitoring.catalogue import series_names
from monitoring.dashboards.files import DASHBOARDS, FOLDER, written
from tests.unit.monitoring.test_alerting import names_in

PROVISIONING = FOLDER.parent / "provisioning"


def panels_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(expression: str) -> str:
    """With Grafana's variables filled in."""
    return expression.replace("$__rate_interval", "5m").replace("$kind", "render")


@pytest.mark.parametrize("path", written(), ids=lambda path: path.name)
def test_the_json_is_current(path: Path) -> None:
    assert path.read_text() == written()[path], "run `python -m monitoring.dashboards`"


def test_no_dashboard_is_left_over() -> None:
    assert set(FOLDER.iterdir()) == set(written())
    assert len({page.uid for page in DASHBOARDS}) == len(DASHBOARDS) == 5


@pytest.mark.parametrize("path", written(), ids=lambda path: path.name)
def test_every_query_is_promql_and_names_metrics_that_exist(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    known = series_names() | {recording.record for group in GROUPS for recording in group.recordings}
    assert panels_of(dashboard)
    for panel in panels_of(dashboard):
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            expression = filled(target["expr"])
            assert "$" not in expression
            promql_parser.parse(expression)
            assert set(names_in(expression)) - known == set()


@pytest.mark.parametrize("path", written(), ids=lambda path: path.name)
def test_panels_are_laid_out_without_overlap(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(path.read_text())["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_grafana_gets_the_same_alerts_and_data_source() -> None:
    text = GRAFANA.read_text()
    # given the provisioned rules / then each alert is one, with the same expression
    assert re.findall(r'^        title: "(\w+)"$', text, re.MULTILINE) == [alert.name for alert in alerts()]
    queries = [json.loads(line) for line in re.findall(r"^        data: (.*)$", text, re.MULTILINE)]
    for alert, (query, reduced, condition) in zip(alerts(), queries, strict=True):
        assert query["model"]["expr"] == alert.expr
        assert query["datasourceUid"] == DATASOURCE_UID
        assert (reduced["model"]["expression"], condition["refId"]) == ("A", "C")
    # and the data source has the uid that they name
    assert f"uid: {DATASOURCE_UID}\n" in (PROVISIONING / "datasources" / "prometheus.yml").read_text()
