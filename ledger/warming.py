"""Warm capacity in the ledger: what came in each hour of the week, what is kept warm, and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ledger.errors import UnknownOutcome
from ledger.models import Kind
from ledger.outcomes import Refused
from ledger.scripts import ScriptRunner

HOURS_PER_WEEK = 168


@dataclass(frozen=True)
class Arrivals:
    """What a week looks like: jobs by hour of the week (0 is Monday 00 to 01 UTC), smoothed over the weeks."""

    by_hour: Mapping[int, float]
    #: Seconds that a job runs on average, cold start included; None: none has ended yet.
    mean_run_s: float | None
    #: Seconds that a container of a GPU class needs to start; of those that were measured.
    mean_cold_starts_s: Mapping[str, float]
    now_ms: int


@dataclass(frozen=True)
class WarmPool:
    """Warm containers of one kind and class."""

    kind: Kind
    gpu: str
    #: So many are kept up, those at work included.
    number: int
    #: Idle ones beside.
    buffer: int
    #: What one costs, nano-dollars a second.
    usd_nanos_per_s: int


@dataclass(frozen=True)
class WarmTerms:
    """What warm containers are paid by."""

    #: How long they are paid for at a time, seconds from now.
    round_s: float
    #: What forecasts may cost in a day (UTC) in all, micro-dollars; None: an operator wished for them.
    ceiling_usd_micros: int | None = None


@dataclass(frozen=True)
class WarmHeld:
    """So many fit, and count from now on."""

    number: int
    buffer: int
    #: The cap that let no more in; None: all fit.
    cut_by: str | None = None


class WarmContainers:
    """The warm keeper's verbs; part of `Money`."""

    _runner: ScriptRunner

    def arrivals(self, kind: Kind, *, keep_ratio: float) -> Arrivals:
        """Fold the hours that are over into the week's picture, and return it.

        Args:
            kind: the kind of job.
            keep_ratio: how much of an hour's old value stays when the same hour of the next week is folded in.
        """
        answer = self._runner.call("fold_arrivals", kind=kind, keep=keep_ratio, hours=HOURS_PER_WEEK)
        slots = answer["slots"] or {}
        return Arrivals(
            by_hour={int(hour): float(jobs) for hour, jobs in dict(slots).items()},
            mean_run_s=answer.get("mean_run_s"),
            mean_cold_starts_s={gpu: float(mean) for gpu, mean in dict(answer["mean_cold_starts_s"] or {}).items()},
            now_ms=int(answer["now_ms"]),
        )

    def hold_warm(self, pool: WarmPool, terms: WarmTerms) -> WarmHeld | Refused:
        """Before Modal is told: count them under the caps on what is alive, as many as fit.

        Live attempts of the class have some of them, and some idle after a call: those count already. A refusal (none
        fits, or no dollar cap allows a round of them) changes nothing.
        """
        answer = self._warm_pay(pool, terms, hold=True)
        match answer["outcome"]:
            case "held":
                return WarmHeld(int(answer["number"]), int(answer["buffer"]), answer.get("cut_by"))
            case "refused":
                return Refused(answer["reason"])
            case other:
                raise UnknownOutcome("warm_pay", other)

    def pay_warm(self, pool: WarmPool, terms: WarmTerms) -> Refused | None:
        """Count what Modal keeps now, and book what its next round costs, before it is spent.

        Those that idle after a call are left out: their tail is set aside already. What is paid here for a container is
        not charged to the call that it waited for. A refusal books nothing; they are counted, for they are there.
        """
        answer = self._warm_pay(pool, terms, hold=False)
        match answer["outcome"]:
            case "paid":
                return None
            case "refused":
                return Refused(answer["reason"])
            case other:
                raise UnknownOutcome("warm_pay", other)

    def _warm_pay(self, pool: WarmPool, terms: WarmTerms, *, hold: bool) -> dict[str, Any]:
        return self._runner.call(
            "warm_pay",
            **vars(pool),
            hold=hold,
            round_ms=round(terms.round_s * 1000),
            ceiling_usd_micros=terms.ceiling_usd_micros,
        )

    def kept_warm(self) -> dict[tuple[Kind, str], int]:
        """How many containers of each kind and class Modal was told to keep; 0: it is counted, and was never told."""
        return _kept(self._runner.call("warm_kept")["kept"])

    def note_kept_warm(self, kind: Kind, gpu: str, number: int, *, why: str) -> None:
        """So many are kept from now on; told in an event."""
        self._runner.call("warm_kept", kind=kind, gpu=gpu, number=number, why=why)


def _kept(rows: object) -> dict[tuple[Kind, str], int]:
    found = {}
    for row in rows if isinstance(rows, list) else []:
        name, _, number = str(row).rpartition("=")
        kind, _, gpu = name.partition(":")
        found[Kind(kind), gpu] = int(number)
    return found
