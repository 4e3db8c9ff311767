"""How long the system took to go on after each fault, from the ledger's own events. Pure.

Times are from the strike (outages included) to the first event that shows that what was struck works again; the
stream's entry ids give them, which are Redis's clock and not moved by a jump of the ledger's.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.injector import Strike
from tests.chaos.observations import TERMINAL, Event, LedgerFacts
from tests.chaos.plan import Fault


@dataclass(frozen=True)
class Recovery:
    """Of one kind of fault."""

    fault: Fault
    strikes: int
    #: Seconds, one for each strike (or each struck job) of which it can be told.
    seconds: Sequence[float]
    #: What was waited for.
    until: str

    @property
    def median_s(self) -> float | None:
        """The median, seconds; None if nothing can be told."""
        return statistics.median(self.seconds) if self.seconds else None

    @property
    def worst_s(self) -> float | None:
        """The worst, seconds; None if nothing can be told."""
        return max(self.seconds, default=None)


_Sign = Callable[[Event], bool]


def _runs_again(event: Event) -> bool:
    return event.state in {"running", "delivering", *TERMINAL}


def _placed(event: Event) -> bool:
    return event.state == "placed"


def _completed(event: Event) -> bool:
    return event.state == "completed"


_STRUCK_JOBS: Mapping[Fault, str] = {
    Fault.KILL_GPU: "the job runs again",
    Fault.KILL_GPU_CHILD: "the job runs again",
    Fault.STOP_GPU: "the job runs again",
    Fault.HANG_ENGINE: "the job runs again",
    # Of what any overflow worker held: which of them held what is nowhere written.
    Fault.KILL_OVERFLOW: "what was held goes on",
    Fault.STOP_OVERFLOW: "what was held goes on",
    Fault.KILL_CONTAINER: "the job goes on",
}
#: The way of a job: somebody takes it in, somebody decides, somebody runs it, somebody delivers it.
_WHOLE_WAY: tuple[_Sign, ...] = (lambda e: e.state == "queued", _placed, lambda e: e.state == "running", _completed)
#: What any job shows, and the signs of it: all of them must have been seen again.
_ANY_JOB: Mapping[Fault, tuple[str, tuple[_Sign, ...]]] = {
    Fault.KILL_API: ("a job comes in by the API", (lambda e: e.state == "queued" and e.detail == "api",)),
    Fault.KILL_DISPATCH: ("a job is placed", (_placed,)),
    Fault.STOP_DISPATCH: ("a job is placed", (_placed,)),
    Fault.KILL_MODAL: ("a Modal job moves", (lambda e: e.pool == "modal" and e.state != "placed",)),
    Fault.KILL_REDIS: ("one queues, one is placed, one runs, one completes", _WHOLE_WAY),
    Fault.CUT_REDIS: ("one queues, one is placed, one runs, one completes", _WHOLE_WAY),
    Fault.REFUSE_REDIS: ("one queues, one is placed, one runs, one completes", _WHOLE_WAY),
    Fault.SLOW_REDIS: ("one queues, one is placed, one runs, one completes", _WHOLE_WAY),
    Fault.HOLD_REDIS: ("one queues, one is placed, one runs, one completes", _WHOLE_WAY),
    Fault.KILL_S3: ("a job completes", (_completed,)),
    Fault.REFUSE_S3: ("a job completes", (_completed,)),
    Fault.HANG_S3: ("a job completes", (_completed,)),
    Fault.LOSE_S3_ANSWERS: ("a job completes", (_completed,)),
    Fault.LOSE_MODAL_ANSWERS: ("a Modal job runs", (lambda e: e.pool == "modal" and e.state == "running",)),
    Fault.DUPLICATE_MESSAGES: ("one is placed, one runs, one completes", _WHOLE_WAY[1:]),
    Fault.REORDER_MESSAGES: ("one is placed, one runs, one completes", _WHOLE_WAY[1:]),
    Fault.LOSE_NUDGES: ("one is placed, one runs, one completes", _WHOLE_WAY[1:]),
    Fault.JUMP_CLOCK: ("one is placed, one runs, one completes", _WHOLE_WAY[1:]),
    Fault.JUMP_WORKER_CLOCK: ("one is placed, one runs, one completes", _WHOLE_WAY[1:]),
}


def recoveries(strikes: Iterable[Strike], ledger: LedgerFacts) -> list[Recovery]:
    """One for each kind of fault that struck, in the order of `Fault`."""
    by_fault: dict[Fault, list[Strike]] = defaultdict(list)
    for strike in strikes:
        by_fault[strike.planned.fault].append(strike)
    by_job: dict[str, list[Event]] = defaultdict(list)
    for event in ledger.events:
        by_job[event.job_id].append(event)
    return [_of(fault, by_fault[fault], ledger, by_job) for fault in Fault if fault in by_fault]


def _of(fault: Fault, strikes: list[Strike], ledger: LedgerFacts, by_job: Mapping[str, list[Event]]) -> Recovery:
    if fault in _STRUCK_JOBS:
        found = [
            _first(by_job.get(job_id, ()), strike.at_ms, _runs_again) for strike in strikes for job_id in strike.jobs
        ]
        return Recovery(fault, len(strikes), _told(found), _STRUCK_JOBS[fault])
    if fault in _ANY_JOB:
        until, signs = _ANY_JOB[fault]
        return Recovery(fault, len(strikes), _told([_all_seen(ledger.events, s.at_ms, signs) for s in strikes]), until)
    if fault is Fault.CANCEL:
        return Recovery(fault, len(strikes), _told([_settled(s, ledger) for s in strikes]), "its Modal call is settled")
    return Recovery(fault, len(strikes), (), "")


def _first(events: Iterable[Event], at_ms: int, sign: _Sign) -> float | None:
    return next(((event.at_ms - at_ms) / 1000 for event in events if event.at_ms > at_ms and sign(event)), None)


def _all_seen(events: Sequence[Event], at_ms: int, signs: Sequence[_Sign]) -> float | None:
    """Seconds until each sign was seen; None if one never was (the run may have been over)."""
    seen = [_first(events, at_ms, sign) for sign in signs]
    told = [one for one in seen if one is not None]
    return max(told) if len(told) == len(seen) else None


def _settled(strike: Strike, ledger: LedgerFacts) -> float | None:
    """Seconds from a cancelled job's end to the settlement of its last attempt, if that was a Modal one."""
    for job_id in strike.jobs:
        job = ledger.jobs.get(job_id)
        last = job.attempts.get(max(job.attempts, default=0)) if job else None
        if job and last and last.get("pool") == "modal" and "settled_ms" in last and "finished_ms" in job.fields:
            return (int(last["settled_ms"]) - int(job.fields["finished_ms"])) / 1000
    return None


def _told(seconds: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(sorted(value for value in seconds if value is not None))


@dataclass(frozen=True)
class Standstill:
    """The longest that any job stood still between two events."""

    seconds: float
    job_id: str
    state: str
    pool: str


def _of_jobs(ledger: LedgerFacts) -> list[Event]:
    """(Budgets and warm containers have events, too.)"""
    return [event for event in ledger.events if event.job_id]


def lengths_s(ledger: LedgerFacts) -> list[float]:
    """Seconds from each job's first event to its last, in order."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for event in _of_jobs(ledger):
        first.setdefault(event.job_id, event.at_ms)
        last[event.job_id] = event.at_ms
    return sorted((last[job_id] - first[job_id]) / 1000 for job_id in first)


def standstills(ledger: LedgerFacts, count: int) -> list[Standstill]:
    """The longest times between two events of one job, longest first."""
    before: dict[str, Event] = {}
    found = []
    for event in _of_jobs(ledger):
        earlier = before.get(event.job_id)
        if earlier is not None:
            seconds = (event.at_ms - earlier.at_ms) / 1000
            found.append(Standstill(seconds, event.job_id, earlier.state, earlier.pool))
        before[event.job_id] = event
    return sorted(found, key=lambda one: -one.seconds)[:count]
