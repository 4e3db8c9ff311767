"""From the ledger's money to dollars under each cap: what is spent, what is reserved, what it will come to."""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ledger.measuring import Measurement

_MICROS = 1e-6
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Budget:
    """One cap and what is under it, dollars."""

    scope: str
    cap_usd: float
    spent_usd: float
    reserved_usd: float
    #: Seconds since 1970.
    period_start_s: float
    period_end_s: float

    def projected_usd(self, now_s: float) -> float:
        """What will have been spent at the period's end, if it goes on as in the period so far."""
        past = max(1.0, now_s - self.period_start_s)
        return self.spent_usd * (self.period_end_s - self.period_start_s) / past


def budgets(measured: Measurement) -> Iterator[Budget]:
    """Every budget that has a cap: the one in force."""
    for scope, row in measured.scopes.items():
        if row.cap_usd_micros is not None:
            begin_s, end_s = _day(measured.date) if scope == "day" else _month(measured.month)
            yield Budget(
                scope=scope,
                cap_usd=row.cap_usd_micros * _MICROS,
                spent_usd=row.spent_usd_micros * _MICROS,
                reserved_usd=row.reserved_usd_micros * _MICROS,
                period_start_s=begin_s,
                period_end_s=end_s,
            )


def _month(month: str) -> tuple[float, float]:
    """Begin and end of a calendar month (UTC) such as `2026-11`, seconds since 1970."""
    year, number = (int(part) for part in month.split("-"))
    begin_s = datetime(year, number, 1, tzinfo=UTC).timestamp()
    return begin_s, begin_s + monthrange(year, number)[1] * _DAY_S


def _day(date: str) -> tuple[float, float]:
    """Begin and end of a day (UTC), seconds since 1970."""
    begin_s = datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()
    return begin_s, begin_s + _DAY_S
