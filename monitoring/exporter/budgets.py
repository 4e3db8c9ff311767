"""From the ledger's money to dollars under each cap: what is spent, what is reserved, what it will come to."""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ledger.decisions import Limits
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


def budgets(measured: Measurement, limits: Limits) -> Iterator[Budget]:
    """Every budget that has a cap: the one in force, which the last placement on Modal was made under.

    Args:
        measured: the ledger.
        limits: the exporter's own, for what nothing was placed under yet.
    """
    for scope, row in measured.scopes.items():
        cap_usd_micros = row.cap_usd_micros if row.placed_under else cap_of(scope, limits)
        if cap_usd_micros is not None:
            begin_s, end_s = _day(measured.date) if scope == "day" else _month(measured.month)
            yield Budget(
                scope=scope,
                cap_usd=cap_usd_micros * _MICROS,
                spent_usd=row.spent_usd_micros * _MICROS,
                reserved_usd=row.reserved_usd_micros * _MICROS,
                period_start_s=begin_s,
                period_end_s=end_s,
            )


def cap_of(scope: str, limits: Limits) -> int | None:
    """The cap of a scope, micro-dollars; None: it has none."""
    level, _, name = scope.partition(":")
    match level:
        case "month":
            return limits.month_cap_usd_micros
        case "day":
            return limits.day_cap_usd_micros
        case "kind":
            return limits.kind_caps_usd_micros.get(name)
        case "tenant":
            return limits.tenant_cap(name)
        case _:
            return None


def _month(month: str) -> tuple[float, float]:
    """Begin and end of a calendar month (UTC) such as `2026-11`, seconds since 1970."""
    year, number = (int(part) for part in month.split("-"))
    begin_s = datetime(year, number, 1, tzinfo=UTC).timestamp()
    return begin_s, begin_s + monthrange(year, number)[1] * _DAY_S


def _day(date: str) -> tuple[float, float]:
    """Begin and end of a day (UTC), seconds since 1970."""
    begin_s = datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()
    return begin_s, begin_s + _DAY_S
