"""Reservations: a call that outlasts its own is topped up from the budget, or ended when the budget has no more.

The sums are pure functions of what the ledger told with the call. While a reservation covers its call, the ledger is
not asked.
"""

import asyncio
import math
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from infra.settings import Settings
from ledger import Ledger
from ledger.outcomes import DueCall, Refused, Stale, ToppedUp

log = structlog.get_logger(__name__)

NANOS_PER_MICRO = 1_000


class Coverage(Enum):
    """Whether a call's reservation covers it."""

    #: It does, or the settings let the call run on.
    COVERED = auto()
    #: The reservation is used up, and the budget has no more for the call.
    USED_UP = auto()


@dataclass(frozen=True)
class Terms:
    """What a reservation must cover beside the call itself, and how far ahead it is topped up. Seconds."""

    #: The container's idle tail, and the time that it takes to stop it.
    after_s: float
    #: The size of a top-up. It is asked for when half of one is left.
    step_s: float


def covered_s(call: DueCall, terms: Terms) -> float:
    """How long after its spawn a call may run within its reservation, seconds; infinite without a known price."""
    if call.usd_nanos_per_s <= 0:
        return math.inf
    return call.reserved_usd_micros * NANOS_PER_MICRO / call.usd_nanos_per_s - terms.after_s


def wanted_usd_micros(call: DueCall, terms: Terms) -> int | None:
    """What a call should have reserved in all now, micro-dollars; None: what it has covers it for a while."""
    age_s = (call.now_ms - call.spawned_ms) / 1000
    if age_s < covered_s(call, terms) - terms.step_s / 2:
        return None
    return math.ceil((age_s + terms.step_s + terms.after_s) * call.usd_nanos_per_s / NANOS_PER_MICRO)


class TopUps:
    """Keeps the reservations of running calls ahead of what they cost."""

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self._ledger = ledger
        self._runs_on = settings.budget.at_reservation_end == "run_on"
        self.terms = Terms(
            after_s=settings.modal.scaledown_window_s + settings.modal.stop_margin_s,
            step_s=settings.budget.top_up_step_s,
        )

    async def keep_covered(self, call: DueCall) -> Coverage:
        """Set more aside if that is due.

        Raises:
            LedgerUnavailable: the ledger could not be asked; the call goes on, and is polled again.
        """
        wanted = wanted_usd_micros(call, self.terms)
        if wanted is None:
            return Coverage.COVERED
        outcome = await asyncio.to_thread(
            self._ledger.modal_calls.top_up, call.job_id, call.attempt, reserve_usd_micros=wanted
        )
        match outcome:
            case ToppedUp() | Stale():
                return Coverage.COVERED
            case Refused(reason):
                age_s = (call.now_ms - call.spawned_ms) / 1000
                used_up = age_s >= covered_s(call, self.terms)
                log.warning("reservation.not_topped_up", reason=reason, used_up=used_up, runs_on=self._runs_on)
                return Coverage.USED_UP if used_up and not self._runs_on else Coverage.COVERED

    def next_s(self, call: DueCall) -> float:
        """When a call must be seen again for its money, seconds from now: before its reservation is used up."""
        age_s = (call.now_ms - call.spawned_ms) / 1000
        left_s = covered_s(call, self.terms) - age_s
        return max(1.0, left_s - self.terms.step_s / 2 if left_s > self.terms.step_s / 2 else left_s)
