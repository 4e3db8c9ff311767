"""Nudges: "there is work of this kind". A nudge is a queue and a task's name; the ledger says when one is due.

Lost, doubled or late, a nudge costs time, never a job: the sweep sends it again for whatever still waits.
"""

import hashlib
import hmac
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

#: The header of a Celery message that carries a nudge's signature.
SIGNATURE_HEADER = "overspill_signature"
#: A shorter key could be guessed.
NUDGE_KEY_MIN_CHARS = 16


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


def sign(key: str, nudge: Nudge, *, message_id: str) -> str:
    """The signature of one nudge: HMAC-SHA256 over all that counts in it, in hexadecimal.

    It has no date: a nudge may wait for hours, and one that is sent again changes only timing.
    """
    signed = "\n".join((nudge.queue, nudge.task, str(nudge.kind), message_id))
    return hmac.new(key.encode(), signed.encode(), hashlib.sha256).hexdigest()


def is_signed(keys: tuple[str, ...], nudge: Nudge, *, message_id: str, signature: str) -> bool:
    """Whether one of our keys made this signature."""
    given = signature.encode(errors="replace")
    good = [hmac.compare_digest(sign(key, nudge, message_id=message_id).encode(), given) for key in keys]
    return any(good)
