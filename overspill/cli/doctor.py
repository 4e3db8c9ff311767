"""`overspill doctor`: one line for each dependency: it is well, or what is wrong and how to mend it."""

from dataclasses import asdict

import typer
from rich.text import Text

from overspill.cli.checks.finding import Finding, Health
from overspill.cli.jobs import AsJson
from overspill.cli.surroundings import FAILED, out, print_json

_STYLES = {Health.OK: "green", Health.NOTE: "yellow", Health.WRONG: "bold red"}


def doctor(json: AsJson = False) -> None:
    """Check every dependency; exit code 1 if something needed is wrong."""
    from overspill.cli.checks.examine import examine  # noqa: PLC0415 - it imports Celery, boto3 and Modal's SDK

    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not json:
            out.print(_line(finding), soft_wrap=True)
    if json:
        print_json([{**asdict(finding), "health": str(finding.health)} for finding in findings])
    if any(finding.health is Health.WRONG for finding in findings):
        raise typer.Exit(FAILED)


def _line(finding: Finding) -> Text:
    line = Text.assemble(
        (f"{finding.health:<6}", _STYLES[finding.health]), f" {finding.name:<14} {finding.detail}", no_wrap=True
    )
    if finding.remedy:
        line.append(f"; to mend it: {finding.remedy}")
    return line
