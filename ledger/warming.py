"""Warm capacity in the ledger: what came in each hour of the week, what is kept warm, and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.decisions import Limits
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
    #: Seconds that a container needs to start; None: none has been measured.
    mean_cold_start_s: float | None
    now_ms: int


class Warming:
    """The warm keeper's verbs."""

    def __init__(self, runner: ScriptRunner) -> None:
        self._runner = runner

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
            mean_cold_start_s=answer.get("mean_cold_start_s"),
            now_ms=int(answer["now_ms"]),
        )

    def pay(
        self,
        kind: Kind,
        gpu: str,
        *,
        idle: int,
        usd_nanos_per_s: int,
        round_s: float,
        limits: Limits,
        ceiling_usd_micros: int | None,
    ) -> Refused | None:
        """Book what the next round of warm containers costs, before it is spent; a refusal changes nothing.

        Those of them that idle after a call are left out: their tail is set aside already. What is paid here for a
        container is not charged to the call that it waited for.

        Args:
            kind: the kind of job that they wait for.
            gpu: their class.
            idle: how many are kept in which nothing runs.
            usd_nanos_per_s: what one costs, nano-dollars a second.
            round_s: how long they are paid for, seconds from now.
            limits: the caps.
            ceiling_usd_micros: what forecasts may cost in a day (UTC) in all; None: an operator wished for it.
        """
        answer = self._runner.call(
            "warm_pay",
            kind=kind,
            gpu=gpu,
            idle=idle,
            usd_nanos_per_s=usd_nanos_per_s,
            round_ms=round(round_s * 1000),
            limits=limits.to_wire_whole(),
            ceiling_usd_micros=ceiling_usd_micros,
        )
        match answer["outcome"]:
            case "paid":
                return None
            case "refused":
                return Refused(answer["reason"])
            case other:
                raise UnknownOutcome("warm_pay", other)

    def kept(self) -> dict[tuple[Kind, str], int]:
        """How many containers of each kind and class are kept warm now."""
        return _kept(self._runner.call("warm_kept")["kept"])

    def note_kept(self, kind: Kind, gpu: str, number: int, *, why: str) -> None:
        """So many are kept from now on; told in an event."""
        self._runner.call("warm_kept", kind=kind, gpu=gpu, number=number, why=why)


def _kept(rows: object) -> dict[tuple[Kind, str], int]:
    found = {}
    for row in rows if isinstance(rows, list) else []:
        name, _, number = str(row).rpartition("=")
        kind, _, gpu = name.partition(":")
        found[Kind(kind), gpu] = int(number)
    return found
