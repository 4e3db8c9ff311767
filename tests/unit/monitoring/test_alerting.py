"""The rules as data: every alert is whole, tested both ways and explained; what is written is current."""

import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest

from ledger.metrics import BOUNDS
from monitoring import documentation
from monitoring.alerting.files import GRAFANA, GROUPS, alerts, written
from monitoring.alerting.model import Alert, Group, Recording, Severity
from monitoring.alerting.objectives import OBJECTIVES, START_THRESHOLDS
from monitoring.alerting.render import as_grafana, as_prometheus, duration_s, shortened
from monitoring.catalogue import METRICS, series_names

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "monitoring" / "prometheus" / "tests"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
RECORDINGS = [recording for group in GROUPS for recording in group.recordings]


def names_in(expression: str) -> Iterator[str]:
    """Every metric that a PromQL expression names."""
    found: list[str] = []
    walk(promql_parser.parse(expression), found)
    return iter(found)


def walk(node: object, found: list[str]) -> None:
    """The selectors below a node of the parser's tree."""
    if isinstance(node, promql_parser.VectorSelector):
        found.append(str(node.name))
        return
    for name in ("expr", "lhs", "rhs", "vs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            walk(child, found)
    for child in getattr(node, "args", None) or []:
        walk(child, found)


@pytest.mark.parametrize("path", written(), ids=lambda path: path.name)
def test_the_files_are_current(path: Path) -> None:
    assert path.read_text() == written()[path], "run `python -m monitoring.alerting`"


def test_no_rule_file_is_left_over() -> None:
    assert {*GRAFANA.parent.iterdir(), *next(iter(written())).parent.iterdir()} == set(written())


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_every_alert_is_tested_both_ways_and_explained(alert: Alert) -> None:
    # given the names of the promtool tests
    names = re.findall(r"^  - name: (.*)$", "\n".join(path.read_text() for path in TESTS.glob("*.yml")), re.MULTILINE)
    # then one says that it fires, one that it stays quiet
    assert any(name.startswith(f"{alert.name} fires ") for name in names)
    assert any(name.startswith(f"{alert.name} stays quiet ") for name in names)
    # and the runbook has its section: what it means, what to look at, what to do
    section = re.search(rf"^### {alert.name}$(.*?)(?=^#|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL)
    assert section, f"docs/runbook.md lacks a section `### {alert.name}`"
    for part in ("**Means.**", "**Look at.**", "**Do.**"):
        assert part in section.group(1), f"the section of {alert.name} lacks {part}"
    assert alert.runbook_url == f"docs/runbook.md#{alert.name.lower()}"
    # and it is whole
    assert alert.severity in Severity
    assert duration_s(alert.hold) >= 0
    assert alert.summary[0] != " "
    assert alert.description.endswith(".")


def test_alerts_and_recordings_have_names_of_their_own() -> None:
    names = [alert.name for alert in alerts()]
    assert len(names) == len(set(names))
    for recording in RECORDINGS:
        assert re.fullmatch(r"[a-z_]+:overspill_[a-z_]+:[a-z0-9_]+", recording.record), recording.record


@pytest.mark.parametrize("rule", [*RECORDINGS, *alerts()], ids=lambda rule: getattr(rule, "record", None) or rule.name)
def test_every_metric_that_a_rule_names_exists(rule: Recording | Alert) -> None:
    names = set(names_in(rule.expr))
    known = series_names() | {recording.record for recording in RECORDINGS}
    assert names - known == set()


def test_the_thresholds_of_the_objectives_are_bounds_of_buckets() -> None:
    for threshold in START_THRESHOLDS:
        assert threshold.seconds in BOUNDS["job_wait_seconds"]
    # and so is every other bound that a rule names
    for rule in (*RECORDINGS, *alerts()):
        for metric, bound in re.findall(r'overspill_(\w+)_bucket\{[^}]*le="([^"]+)"', rule.expr):
            assert float(bound) in BOUNDS[metric]
            assert bound == str(float(bound)), "as the exporter writes it"
    assert all(0.9 <= one.objective < 1 for one in OBJECTIVES)


def test_shortening_changes_windows_and_nothing_else() -> None:
    expression = 'kind:x:rate1h > 900 and increase(a_5m{b="10m"}[15m]) > rate(c[1h] offset 1w)'
    assert shortened(expression, 60) == (
        'kind:x:rate1h > 900 and increase(a_5m{b="10m"}[15000ms]) > rate(c[60000ms] offset 10080000ms)'
    )
    assert shortened(expression, 1.0) == expression
    # and none is so short that no scrape is in it
    assert shortened("last_over_time(x[1m]) > y[1s]", 120) == "last_over_time(x[2000ms]) > y[1000ms]"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_about_the_ledger_fires_on_while_the_ledger_misses_scrapes(alert: Alert) -> None:
    # given an alert / when it is about what the exporter says of itself / then it ends when that does
    answered_without_the_ledger = set(names_in(alert.expr)) <= {"overspill_up", "overspill_redis_up"}
    keeps = duration_s(alert.keep) > 0
    assert keeps is not answered_without_the_ledger
    # and both that alert people are told so, each in its own words
    group = Group("one", "One.", alerts=(alert,))
    assert (f"keep_firing_for: {alert.keep}\n" in as_prometheus(group)) is keeps
    assert ("keep_firing_for: 1000ms\n" in as_prometheus(group, shorter=120)) is keeps
    assert (f"keepFiringFor: {alert.keep}\n" in as_grafana((group,))) is keeps


@pytest.mark.parametrize("text", ["5", "m5", "5 m", "-5m", ""])
def test_a_duration_is_a_number_and_a_unit(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 5m"):
        duration_s(text)


def test_the_page_is_current() -> None:
    assert documentation.PAGE.read_text() == documentation.page(), "run `python -m monitoring.documentation`"
    # and has every metric and every alert
    assert all(f"`{metric.full_name}`" in documentation.page() for metric in METRICS.values())
    assert all(f"[{alert.name}]" in documentation.page() for alert in alerts())
