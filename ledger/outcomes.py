"""What the ledger answers: one frozen class per outcome, to be matched exhaustively."""

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
class DueCall:
    """A Modal call to be looked at. Times are milliseconds by Redis's clock."""

    record: JobRecord
    now_ms: int
    spawned_ms: int
    call_deadline_ms: int


@dataclass(frozen=True)
class DueCancel:
    """A Modal call to be stopped. `call_id` None: its spawn has not answered (yet)."""

    job_id: str
    attempt: int
    kind: Kind
    call_id: str | None
    gpu: str
    now_ms: int
    spawned_ms: int | None
    spawn_intent_ms: int | None


@dataclass(frozen=True)
class ExpiredLease:
    """An attempt whose holder had died: what became of its job (`requeued` or `failed`)."""

    job_id: str
    attempt: int
    kind: Kind
    cause: str
    outcome: str
