"""`overspill doctor`: one line for each dependency: it is well, or what is wrong and how to mend it."""

from collections.abc import Iterator
from dataclasses import asdict

import typer
from rich.text import Text

from overspill.cli.checks.finding import Finding, Health, note, wrong
from overspill.cli.options import AsJson
from overspill.terminal.console import FAILED, out, print_json

_STYLES = {Health.OK: "green", Health.NOTE: "yellow", Health.WRONG: "bold red"}


def doctor(json: AsJson = False) -> None:
    """Check every dependency. Exit code 1 if a required one is wrong."""
    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not json:
            out.print(_line(finding), soft_wrap=True)
    if json:
        print_json([{**asdict(finding), "health": str(finding.health)} for finding in findings])
    if any(finding.health is Health.WRONG for finding in findings):
        raise typer.Exit(FAILED)


def examine() -> Iterator[Finding]:
    """All checks, in the order in which they depend on each other. A check whose dependency is away is left out."""
    from infra.settings import read_settings  # noqa: PLC0415 - this and the checks import Celery, boto3 and Modal's SDK
    from overspill.cli.checks import machine, money, services  # noqa: PLC0415

    yield machine.python()
    yield machine.redis_server()
    yield machine.s3_server()
    yield machine.codecs()
    try:
        settings = read_settings()
    except SystemExit as stopped:
        _, *named = str(stopped).splitlines()
        yield wrong("settings", "; ".join(named), "correct these variables; docs/settings.md has their bounds")
        return
    yield machine.api_keys(settings)
    ledger_away = False
    for finding in services.ledger(settings):
        ledger_away |= finding.name == "ledger" and finding.health is Health.WRONG
        yield finding
    broker = services.broker(settings)
    yield broker
    yield services.s3(settings)
    modal = services.modal(settings)
    yield modal
    if modal.health is Health.OK:
        yield money.prices(settings)
    if ledger_away:
        yield note("slots", "not asked, and neither are limits, budget and spilling: the ledger is away")
    else:
        yield money.limits(settings)
        yield money.budget(settings)
        yield money.spilling(settings)
        yield services.slots(settings)
    if broker.health is Health.WRONG:
        yield note("queues", "not asked: the broker is away")
    else:
        yield services.queues(settings)


def _line(finding: Finding) -> Text:
    line = Text.assemble(
        (f"{finding.health:<6}", _STYLES[finding.health]), f" {finding.name:<14} {finding.detail}", no_wrap=True
    )
    if finding.remedy:
        line.append(f"; to mend it: {finding.remedy}")
    return line
