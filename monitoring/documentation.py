"""The parts of docs/monitoring.md that are made from the code: `python -m monitoring.documentation` writes them anew.

They stand between `<!-- begin: name -->` and `<!-- end: name -->`; what stands around them is written by hand.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from monitoring.alerting.files import alerts
from monitoring.alerting.objectives import OBJECTIVES
from monitoring.catalogue import SECTIONS, Type

PAGE = Path(__file__).parents[1] / "docs" / "monitoring.md"


def metrics_table() -> str:
    """Every metric, by section."""
    lines = []
    for title, metrics in SECTIONS.items():
        lines += [f"### {title}", "", "| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
        for metric in metrics:
            labels = ", ".join(f"`{name}`" for name in metric.labels) or " "
            shown = "gauge" if metric.type is Type.INFO else str(metric.type)
            lines.append(f"| `{metric.full_name}` | {shown} | {labels} | {metric.help} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def alerts_table() -> str:
    """Every alert."""
    lines = ["| alert | severity | for | says |", "| --- | --- | --- | --- |"]
    for alert in alerts():
        words = re.sub(r"\{\{ \$(?:labels\.)?(\w+)[^}]*\}\}", r"*\1*", alert.summary)
        link = f"[{alert.name}](runbook.md#{alert.anchor})"
        lines.append(f"| {link} | {alert.severity} | {alert.hold} | {words} |")
    return "\n".join(lines)


def objectives_list() -> str:
    """Every objective."""
    return "\n".join(f"- `{one.name}`: {one.text}" for one in OBJECTIVES)


def parts() -> Mapping[str, str]:
    """Each part, by its name in the page."""
    return {"objectives": objectives_list(), "alerts": alerts_table(), "metrics": metrics_table()}


def page() -> str:
    """The page, with its parts made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, part in parts().items():
        before, begin, rest = text.partition(f"<!-- begin: {name} -->\n")
        _, end, after = rest.partition(f"<!-- end: {name} -->")
        text = f"{before}{begin}{part}\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
