"""Rules as files: YAML for Prometheus, provisioning for Grafana, and both with short windows for tests.

JSON strings are YAML strings, so that no YAML library is needed to write them.
"""

import json
import re
from collections.abc import Iterator, Mapping

from monitoring.alerting.model import Alert, Group, Recording

HEADER = "# Written by `python -m monitoring.alerting` from monitoring/alerting/; edit that.\n"
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
#: Durations where PromQL has them: in a range, behind offset. (Names of recording rules hold some too; those stay.)
_DURATION = re.compile(r"(?<=\[)(\d+)(ms|s|m|h|d|w)(?=\])|(?<=offset )(\d+)(ms|s|m|h|d|w)")
#: However short windows are made, there are scrapes in each: those of a test are half a second apart.
_SHORTEST_WINDOW_S = 2.0


def as_prometheus(group: Group, *, shorter: float = 1.0, interval: str | None = None) -> str:
    """The group as a rules file.

    Args:
        group: the rules.
        shorter: every window and every `for` is divided by this, for tests.
        interval: how often it is evaluated; None: as the server's configuration says.
    """
    lines = [HEADER.rstrip(), f"# {group.text}", "groups:", f"  - name: overspill_{group.name}"]
    if interval:
        lines.append(f"    interval: {interval}")
    lines.append("    rules:")
    for recording in group.recordings:
        lines += _recording(recording, shorter)
    for alert in group.alerts:
        lines += _alert(alert, shorter)
    return "\n".join(lines) + "\n"


def shortened(expression: str, shorter: float) -> str:
    """An expression with its windows divided by `shorter`."""
    if shorter == 1.0:
        return expression
    return _DURATION.sub(lambda found: _divided(found.group(0), shorter, least_s=_SHORTEST_WINDOW_S), expression)


def duration_s(text: str) -> float:
    """A duration such as `5m`, seconds."""
    found = re.fullmatch(r"(\d+)(ms|s|m|h|d|w)", text)
    if found is None:
        raise ValueError(f"expected a duration such as 5m, got {text!r}")
    return int(found.group(1)) * _UNITS_S[found.group(2)]


def _divided(duration: str, shorter: float, *, least_s: float = 0.001) -> str:
    seconds = duration_s(duration)
    return f"{max(1, round(1000 * max(min(least_s, seconds), seconds / shorter)))}ms"


def _recording(rule: Recording, shorter: float) -> list[str]:
    lines = [f"      - record: {rule.record}", f"        expr: {json.dumps(shortened(rule.expr, shorter))}"]
    return lines + ([f"        labels: {_mapping(rule.labels)}"] if rule.labels else [])


def _alert(alert: Alert, shorter: float) -> list[str]:
    keep = alert.keep if shorter == 1.0 else _divided(alert.keep, shorter)
    return [
        f"      - alert: {alert.name}",
        f"        expr: {json.dumps(shortened(alert.expr, shorter))}",
        f"        for: {alert.hold if shorter == 1.0 else _divided(alert.hold, shorter)}",
        *([f"        keep_firing_for: {keep}"] if duration_s(alert.keep) else []),
        f"        labels: {_mapping({'severity': alert.severity})}",
        "        annotations:",
        f"          summary: {json.dumps(alert.summary)}",
        f"          description: {json.dumps(alert.description)}",
        f"          runbook_url: {json.dumps(alert.runbook_url)}",
    ]


def _mapping(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{name}: {json.dumps(str(value))}" for name, value in labels.items()) + "}"


#: The data source's uid in Grafana's provisioning.
DATASOURCE_UID = "overspill-prometheus"


def as_grafana(groups: tuple[Group, ...]) -> str:
    """Grafana-managed alert rules, for those who do not run Alertmanager. The recording rules stay Prometheus's.

    The format is Grafana's file provisioning of alert rules (docs: alerting-resources/file-provisioning): a query A, a
    reduction B to its last value, a threshold C on whatever is there; no data is no alert.
    """
    lines = [HEADER.rstrip(), "apiVersion: 1", "groups:"]
    for group in groups:
        lines += [
            "  - orgId: 1",
            f"    name: overspill_{group.name}",
            "    folder: Overspill",
            "    interval: 1m",
            "    rules:",
        ]
        for alert in group.alerts:
            lines += _grafana_rule(alert)
    return "\n".join(lines) + "\n"


def _grafana_rule(alert: Alert) -> Iterator[str]:
    queries: tuple[dict[str, object], ...] = (
        _grafana_node("A", DATASOURCE_UID, {"expr": alert.expr, "instant": True}),
        _grafana_node("B", "__expr__", {"type": "reduce", "expression": "A", "reducer": "last"}),
        # The expression itself is the condition: every series that it returns is alerted, whatever its value.
        _grafana_node("C", "__expr__", {"type": "math", "expression": "is_number($B) || is_inf($B)"}),
    )
    yield f"      - uid: {json.dumps('overspill-' + alert.anchor)}"
    yield f"        title: {json.dumps(alert.name)}"
    yield "        condition: C"
    yield f"        data: {json.dumps(queries)}"
    yield "        noDataState: OK"
    yield "        execErrState: Error"
    yield f"        for: {alert.hold}"
    if duration_s(alert.keep):
        # (In this file so, and not as Prometheus spells it: Grafana drops what it does not know.)
        yield f"        keepFiringFor: {alert.keep}"
    yield "        isPaused: false"
    yield f"        labels: {_mapping({'severity': alert.severity})}"
    yield "        annotations:"
    for name, text in (("summary", alert.summary), ("description", alert.description)):
        # In Grafana `$value` holds every node of the rule; the query's own value is that of B.
        yield f"          {name}: {json.dumps(text.replace('$value', '$values.B.Value'))}"
    yield f"          runbook_url: {json.dumps(alert.runbook_url)}"


def _grafana_node(ref: str, source: str, model: dict[str, object]) -> dict[str, object]:
    return {
        "refId": ref,
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": source,
        "model": {"refId": ref, **model},
    }
