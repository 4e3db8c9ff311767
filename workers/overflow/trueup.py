"""The nightly true-up: Modal's own bill is compared with the ledger, and the difference is booked.

On demand it is done by `overspill budget`. A token that may not see the bill is said so once a day, and nothing is
booked.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from modal.exception import Error as ModalError

from ledger.outcomes import Superseded, TooEarly, TruedUp
from workers.billing import HOUR, billed_usd_micros
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: The bill of an hour is taken as whole so long after it.
SETTLED_AFTER = timedelta(hours=2)
#: What did not work is tried again after this, seconds.
AGAIN_AFTER_S = 3600.0


def period_of(now: datetime) -> tuple[datetime, datetime]:
    """The bill that is compared: from the month's start to the last hour that is certainly whole.

    In the first hours of a month it is the month before, whole.
    """
    end = (now - SETTLED_AFTER).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    last = end - HOUR
    return last.replace(day=1, hour=0), end


class NightlyTrueUp:
    """Compares once a day, at an hour of the settings (UTC)."""

    def __init__(self, open_ends: Resources, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._open = open_ends
        self._now = now
        self._done_on = ""
        self._not_before = 0.0

    async def if_due(self) -> None:
        """Compare, if the hour has come and it was not done today."""
        now = self._now()
        today = now.date().isoformat()
        is_night = now.hour == self._open.settings.true_up_hour_utc
        if not is_night or self._done_on == today or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + AGAIN_AFTER_S
        if await self.compare(now):
            self._done_on = today

    async def compare(self, now: datetime) -> bool:
        """Compare up to the last whole hour in which everything is settled. False: not now, later."""
        start, end = period_of(now)
        outcome = await self._compare(start, end)
        if isinstance(outcome, TooEarly):
            # Something that began earlier still runs (under constant load something always does): up to there, then.
            settled = datetime.fromtimestamp(outcome.settled_until_ms / 1000, UTC)
            end = settled.replace(minute=0, second=0, microsecond=0)
            outcome = await self._compare(start, end) if end > start else outcome
        return isinstance(outcome, TruedUp | Superseded)

    async def _compare(self, start: datetime, end: datetime) -> TruedUp | TooEarly | Superseded | None:
        """Book the difference up to an hour. None: Modal could not be asked."""
        try:
            billed = await asyncio.to_thread(billed_usd_micros, self._open.settings, start=start, end=end)
        except (ModalError, OSError) as error:
            log.warning("bill.not_asked", error=f"{type(error).__name__}: {error}")
            return None
        outcome = await asyncio.to_thread(
            self._open.ledger.budget.true_up,
            start.strftime("%Y-%m"),
            billed,
            who="nightly",
            as_of_ms=round(end.timestamp() * 1000),
        )
        match outcome:
            case TruedUp(difference_usd_micros):
                log.info("bill.trued_up", billed_usd_micros=billed, difference_usd_micros=difference_usd_micros)
            case TooEarly(settled_until_ms):
                log.info("bill.too_early", settled_until_ms=settled_until_ms)
            case Superseded():
                log.info("bill.superseded")
        return outcome
