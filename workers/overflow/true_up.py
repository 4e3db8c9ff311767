"""The nightly true-up: Modal's own bill is compared with the ledger, and the difference is booked.

Each night the days that are over: this month's so far, and the month before until it is closed, that is, compared up to
its end. A comparison that failed is repeated all day. On demand it is done by `overspill budget true-up`.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import structlog
from modal.exception import Error as ModalError

from ledger import LedgerFull, LedgerUnavailable
from ledger.outcomes import Superseded, TooEarly, TruedUp
from ledger.periods import month_end_ms
from workers.billing import HOUR, billed_usd_micros
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: The bill of an hour counts as complete this long after it.
SETTLED_AFTER = timedelta(hours=2)
#: A comparison that failed is repeated after this.
AGAIN_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class Period:
    """Whole days of one month: what one bill is of."""

    start: datetime
    end: datetime

    @property
    def month(self) -> str:
        """The month, "YYYY-MM"."""
        return self.start.strftime("%Y-%m")


def periods_of(day: date) -> tuple[Period, ...]:
    """What is compared on a day (UTC): the month before, and this month up to the day's own midnight.

    A report ends at midnight, so that what it corrects is never booked to the day that has just begun.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    first = midnight.replace(day=1)
    before = Period((first - HOUR).replace(day=1, hour=0), first)
    return (before, Period(first, midnight)) if midnight > first else (before,)


class NightlyTrueUp:
    """Compares once a day, from an hour of the settings (UTC) on."""

    def __init__(self, resources: Resources, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._resources = resources
        self._now = now
        self._done_on: date | None = None
        self._not_before: datetime | None = None
        self._not_asked_on: date | None = None

    async def if_due(self) -> None:
        """Compare, if the hour has come and it did not go well yet today.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        now = self._now()
        today = now.date()
        midnight = datetime(today.year, today.month, today.day, tzinfo=UTC)
        from_ = midnight + max(timedelta(hours=self._resources.settings.budget.true_up_hour_utc), SETTLED_AFTER)
        if now < from_ or self._done_on == today or (self._not_before is not None and now < self._not_before):
            return
        self._not_before = now + AGAIN_AFTER
        if await self.compare(today):
            self._done_on = today

    async def compare(self, day: date) -> bool:
        """Compare what is over before a day. False: something did not work, and is to be tried again.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        went_well = True
        for period in periods_of(day):
            try:
                if await asyncio.to_thread(self._is_open, period, day):
                    went_well = await self._compare(period, day) and went_well
            except (LedgerUnavailable, LedgerFull):
                raise
            except Exception:
                # An error about one month does not reach the other.
                log.exception("bill.not_compared", month=period.month)
                went_well = False
        return went_well

    def _is_open(self, period: Period, day: date) -> bool:
        """This month always is; the one before until it was compared whole, if the ledger knows anything of it."""
        if (day.year, day.month) == (period.start.year, period.start.month):
            return True
        book = self._resources.ledger.money.book(period.month, by="component")
        if not (book.modal or book.true_up):
            return False
        return int(book.true_up.get("as_of_ms", 0)) < month_end_ms(period.month)

    async def _compare(self, period: Period, day: date) -> bool:
        """Compare a month, up to the last hour in which everything is settled."""
        outcome = await self._book(period, day)
        if isinstance(outcome, TooEarly):
            # A call that began earlier still runs (under constant load one always does): compare up to its start.
            settled = datetime.fromtimestamp(outcome.settled_until_ms / 1000, UTC)
            end = settled.replace(minute=0, second=0, microsecond=0)
            outcome = await self._book(Period(period.start, end), day) if end > period.start else outcome
        return isinstance(outcome, TruedUp | Superseded)

    async def _book(self, period: Period, day: date) -> TruedUp | TooEarly | Superseded | None:
        """Book the difference of a period. None: Modal could not be asked."""
        try:
            billed = await asyncio.to_thread(
                billed_usd_micros, self._resources.settings, start=period.start, end=period.end
            )
        except (ModalError, OSError) as error:
            # A warning once a day, whatever becomes of the repetitions: a token that may not see the bill never will.
            say = log.info if self._not_asked_on == day else log.warning
            say("bill.not_read", month=period.month, error=f"{type(error).__name__}: {error}")
            self._not_asked_on = day
            return None
        outcome = await asyncio.to_thread(
            self._resources.ledger.money.true_up,
            period.month,
            billed,
            who="nightly",
            as_of_ms=round(period.end.timestamp() * 1000),
        )
        _tell(period, billed, outcome)
        return outcome


def _tell(period: Period, billed: int, outcome: TruedUp | TooEarly | Superseded) -> None:
    match outcome:
        case TruedUp(difference_usd_micros):
            log.info(
                "bill.trued_up",
                month=period.month,
                billed_usd_micros=billed,
                difference_usd_micros=difference_usd_micros,
            )
        case TooEarly(settled_until_ms):
            log.info("bill.too_early", month=period.month, settled_until_ms=settled_until_ms)
        case Superseded():
            log.info("bill.superseded", month=period.month)
