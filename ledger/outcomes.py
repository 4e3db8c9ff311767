"""What the ledger answers: one frozen class per outcome, to be matched exhaustively."""

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.models import JobRecord, Kind
from ledger.nudges import Nudge


@dataclass(frozen=True)
class Submitted:
    """The job is in the ledger: newly (`created`), or it was there for this idempotency key already."""

    job_id: str
    created: bool
    nudge: Nudge


@dataclass(frozen=True)
class Cancelled:
    """The job is cancelled; if its Modal call runs, a follower stops it."""

    was: str


@dataclass(frozen=True)
class AlreadyEnded:
    """There was nothing to cancel: the job had ended."""

    state: str


@dataclass(frozen=True)
class ClaimedJob:
    """A queued job that this dispatcher, and nobody else, decides about now."""

    record: JobRecord
    claim: int


@dataclass(frozen=True)
class Placed:
    """The decision stands: attempt `attempt` exists. The nudge is to be sent."""

    attempt: int
    nudge: Nudge


@dataclass(frozen=True)
class Held:
    """The job waits in the control plane."""


@dataclass(frozen=True)
class WasShed:
    """The job was refused and has failed with an honest reason."""


@dataclass(frozen=True)
class Refused:
    """A hard limit said no; nothing was changed, the claim still stands."""

    reason: str


@dataclass(frozen=True)
class Stale:
    """Somebody else was faster, or the job moved on; nothing was changed."""

    state: str = ""
    attempt: int = 0


@dataclass(frozen=True)
class ToppedUp:
    """At least so much is set aside for the attempt now, micro-dollars."""

    reserved_usd_micros: int


@dataclass(frozen=True)
class LiveCall:
    """A live Modal attempt, as one that may have to go when a budget is spent."""

    job_id: str
    attempt: int
    kind: Kind
    tenant: str
    priority: int
    #: Milliseconds by Redis's clock.
    placed_ms: int
    reserved_usd_micros: int


@dataclass(frozen=True)
class EndedEarly:
    """Idle containers that turned out to be gone, and what was given back of their tails, micro-dollars."""

    containers: int
    released_usd_micros: int


@dataclass(frozen=True)
class TruedUp:
    """A billing report was compared. `used` is what the ledger had, `difference` what was booked, micro-dollars.

    `already`: this very report had been booked before, and nothing changed.
    """

    difference_usd_micros: int = 0
    used_usd_micros: int = 0
    already: bool = False


@dataclass(frozen=True)
class TooEarly:
    """The report covers hours whose use is not settled yet: ask again for one that ends at or before this instant."""

    settled_until_ms: int


@dataclass(frozen=True)
class Superseded:
    """A report that ends later has been booked; this one says nothing new."""

    as_of_ms: int


PlaceOutcome = Placed | Held | WasShed | Refused | Stale


@dataclass(frozen=True)
class Renewed:
    """The lease stands for another term."""


@dataclass(frozen=True)
class Lost:
    """The attempt is not ours any more (cancelled, or given to another): stop."""

    state: str
    attempt: int


@dataclass(frozen=True)
class Delivering:
    """Go on and deliver."""


@dataclass(frozen=True)
class Completed:
    """The artifact is published. `already`: this very attempt had published it before."""

    already: bool = False


@dataclass(frozen=True)
class Requeued:
    """The attempt failed; the job waits for another."""

    nudge: Nudge


@dataclass(frozen=True)
class Failed:
    """The attempt failed, and with it the job."""


@dataclass(frozen=True)
class ModalCall:
    """The Modal call of an attempt: what each view of it below has. Times are milliseconds by Redis's clock."""

    job_id: str
    #: The fencing token.
    attempt: int
    kind: Kind
    gpu: str
    #: None: its spawn has not answered (yet).
    call_id: str | None
    #: When this view was read.
    now_ms: int

    @property
    def attempt_of(self) -> tuple[str, int]:
        """The attempt: job and number."""
        return self.job_id, self.attempt

    def log_context(self) -> dict[str, object]:
        """What every log line about this call carries."""
        return {"job_id": self.job_id, "attempt": self.attempt, "kind": str(self.kind), "call_id": self.call_id}


@dataclass(frozen=True)
class DueCall(ModalCall):
    """A Modal call to be polled."""

    call_id: str
    spawned_ms: int
    call_deadline_ms: int
    #: 0 to 100, as far as is known.
    progress: int = 0
    #: When it last said something of itself; None: never.
    hinted_ms: int | None = None
    #: When it was first known to have begun.
    begun_ms: int | None = None
    #: When it said that it was about to end.
    said_ended_ms: int | None = None
    #: What is set aside for it, and what its container costs each second as far as is known (0: not known).
    reserved_usd_micros: int = 0
    usd_nanos_per_s: int = 0


@dataclass(frozen=True)
class DueCalls:
    """What a follower has claimed, and what else there is."""

    calls: Sequence[DueCall]
    #: Calls that anybody follows.
    in_flight: int
    #: When the next call falls due, seconds from now; None: none waits.
    next_in_s: float | None


@dataclass(frozen=True)
class DueCancel(ModalCall):
    """A Modal call to be cancelled."""

    spawned_ms: int | None
    spawn_intent_ms: int | None
    #: Our own wall clock of the call; None: it was not known when it was spawned.
    call_deadline_ms: int | None = None


@dataclass(frozen=True)
class ExpiredLease:
    """An attempt whose holder had died: what became of its job (`requeued` or `failed`)."""

    job_id: str
    attempt: int
    kind: Kind
    cause: str
    outcome: str
