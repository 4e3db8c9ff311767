"""Modal's own bill, by its public API: what the workspace was charged for our apps."""

import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import modal

from workers.settings import MICROS_PER_USD, Settings

HOUR = timedelta(hours=1)


def billed_usd_micros(settings: Settings, *, start: datetime, end: datetime) -> int:
    """What Modal charges for our apps between two whole hours, micro-dollars, rounded up.

    An hour that is not over is in the report as far as it has gone, if `end` lies behind it.

    Raises:
        modal.exception.Error: Modal cannot be asked, or this token may not see the bill.
    """
    ours = {settings.modal_app, settings.train_modal_app}
    rows = modal.Workspace.from_context().billing.report(start=start, end=end, resolution="h")
    cost = sum((row.cost for row in rows if row.description in ours), Decimal(0))
    return math.ceil(cost * MICROS_PER_USD)


def billed_this_month_usd_micros(settings: Settings, now: datetime) -> int:
    """What Modal charges for our apps since the month (UTC) began, up to now, micro-dollars.

    Raises:
        modal.exception.Error: Modal cannot be asked, or this token may not see the bill.
    """
    this_hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return billed_usd_micros(settings, start=this_hour.replace(day=1, hour=0), end=this_hour + HOUR)
