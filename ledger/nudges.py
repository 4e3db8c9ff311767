"""Nudges: "there is work of this kind". A nudge is a queue and a task's name; the ledger says when one is due.

Lost, doubled or late, a nudge costs time, never a job: the sweep sends it again for whatever still waits.
"""

from dataclasses import dataclass

from ledger.models import Kind
from ledger.states import Pool

#: The task that decides about queued jobs of a kind.
DISPATCH_TASK = "tasks.dispatch"
#: The task that runs one in-house attempt of a kind.
INHOUSE_TASK = "tasks.run_inhouse"
#: The task that spawns what was placed on Modal.
SPAWN_TASK = "tasks.spawn_overflow"

OVERFLOW_QUEUE = "overflow"


@dataclass(frozen=True)
class Nudge:
    """A Celery message to be: which queue, which task, with which kind of job."""

    queue: str
    task: str
    kind: Kind

    @property
    def kwargs(self) -> dict[str, str]:
        """The keyword arguments of the task."""
        return {"kind": str(self.kind)}


def decide(kind: Kind) -> Nudge:
    """Somebody should decide where queued jobs of this kind run."""
    return Nudge(queue=str(kind), task=DISPATCH_TASK, kind=kind)


def run(pool: Pool, kind: Kind) -> Nudge:
    """Somebody should take a placed attempt of this kind."""
    match pool:
        case Pool.INHOUSE:
            return Nudge(queue=f"inhouse.{kind}", task=INHOUSE_TASK, kind=kind)
        case Pool.MODAL:
            return Nudge(queue=OVERFLOW_QUEUE, task=SPAWN_TASK, kind=kind)


def all_nudges() -> tuple[Nudge, ...]:
    """Every nudge there is, once."""
    return tuple(nudge for kind in Kind for nudge in (decide(kind), run(Pool.INHOUSE, kind), run(Pool.MODAL, kind)))
