"""All checks, in the order in which they depend on each other: what cannot be known is not asked."""

from collections.abc import Iterator

from pydantic import ValidationError

from infra.settings import Settings
from overspill.cli.checks import machine, money, outside, redis
from overspill.cli.checks.finding import Finding, Health, note, wrong
from overspill.cli.surroundings import said


def examine() -> Iterator[Finding]:
    """One finding after the other, as each is known."""
    yield machine.python()
    yield machine.redis_server()
    yield machine.s3_server()
    yield machine.codecs()
    try:
        settings = Settings()
    except ValidationError as error:
        yield wrong("settings", said(error), "set the OVERSPILL_ variable of that name")
        return
    yield machine.api_keys(settings)
    ledger_away = False
    for finding in redis.ledger(settings):
        ledger_away |= finding.name == "ledger" and finding.health is Health.WRONG
        yield finding
    broker = redis.broker(settings)
    yield broker
    yield outside.s3(settings)
    modal = outside.modal(settings)
    yield modal
    if modal.health is Health.OK:
        yield money.prices(settings)
    if ledger_away:
        yield note("slots", "not asked, and neither are limits, budget and spilling: the ledger is away")
    else:
        yield money.limits(settings)
        yield money.budget(settings)
        yield money.spilling(settings)
        yield outside.slots(settings)
    if broker.health is Health.WRONG:
        yield note("queues", "not asked: the broker is away")
    else:
        yield outside.queues(settings)
