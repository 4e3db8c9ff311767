"""Modal's own bill, by its public API: what our environment of the workspace was charged for our apps."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import modal
from modal.types import BillingReportItem

from infra.settings import MICROS_PER_USD, Settings

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class MonthToDate:
    """A bill of this month (UTC) up to now, micro-dollars."""

    usd_micros: int
    #: Of that, what was charged today.
    today_usd_micros: int


def billed_usd_micros(settings: Settings, *, start: datetime, end: datetime, client: modal.Client | None = None) -> int:
    """What Modal charges for our apps between two whole hours, micro-dollars, rounded up.

    Asked is our environment only: another one of the workspace may have apps of the same names, and is another ledger's
    (docs/decisions/0006-following-calls.md). An hour that is not over is in the report as far as it has gone, if `end`
    lies behind it.

    Args:
        settings: the names of the apps and of the environment; without one it is the token's own.
        start: the first hour's beginning.
        end: the last hour's end.
        client: another account's; None: the one of the process's environment.

    Raises:
        modal.exception.Error: Modal cannot be asked, or this token may not see the bill.
    """
    return _micros(_ours(settings, start=start, end=end, client=client))


def billed_this_month(settings: Settings, now: datetime, *, client: modal.Client | None = None) -> MonthToDate:
    """What Modal charges for our apps since the month (UTC) began, up to now.

    Raises:
        modal.exception.Error: Modal cannot be asked, or this token may not see the bill.
    """
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    today = this_hour.replace(hour=0)
    rows = _ours(settings, start=today.replace(day=1), end=this_hour + HOUR, client=client)
    return MonthToDate(_micros(rows), _micros(row for row in rows if row.interval_start >= today))


def _ours(
    settings: Settings, *, start: datetime, end: datetime, client: modal.Client | None
) -> list[BillingReportItem]:
    ours = {settings.modal.app, settings.train.modal_app}
    name = settings.modal.environment
    environment = (
        modal.Environment.from_name(name, client=client) if name else modal.Environment.from_context(client=client)
    )
    return [row for row in environment.billing.report(start=start, end=end, resolution="h") if row.description in ours]


def _micros(rows: Iterable[BillingReportItem]) -> int:
    return math.ceil(sum((row.cost for row in rows), Decimal(0)) * MICROS_PER_USD)
