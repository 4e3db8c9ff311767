"""Which failures are tried again, how often, and after what pause: one table, each cause counted apart.

A cause that says nothing about the job (a preemption, a lost worker) may come often; one that the job itself brings
about (its own error, its memory) only a few times; one that no repetition mends, never.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Cause(StrEnum):
    """Why an attempt ended without a result."""

    #: The engine raised.
    ERROR = "error"
    #: The process or container died.
    CRASH = "crash"
    #: GPU or host memory ran out.
    OUT_OF_MEMORY = "out_of_memory"
    #: A wall clock ran out: the function's or ours.
    TIMEOUT = "timeout"
    #: The machine was taken away in good order: by Modal, or an own worker was asked to stop.
    PREEMPTED = "preempted"
    #: The call was cancelled, and not by us.
    CANCELLED_REMOTELY = "cancelled_remotely"
    #: No GPU of the class came for a long time; the next attempt takes another class.
    GPU_EXHAUSTED = "gpu_exhausted"
    #: The call ran longer than its reservation and the budget had no more for it.
    BUDGET = "budget"
    #: The in-house worker stopped renewing.
    LEASE_LOST = "lease_lost"
    #: Modal refused the spawn; no call exists.
    SPAWN_REFUSED = "spawn_refused"
    #: The overflow worker could not send the spawn (a full disk, no file handles); no call exists, the fault is ours.
    SPAWN_NOT_PREPARED = "spawn_not_prepared"
    #: The spawn's answer never came; a call may exist.
    SPAWN_LOST = "spawn_lost"
    #: The call could not say that it began, and left before it worked.
    NOT_ANNOUNCED = "not_announced"
    #: Modal does not know the call any more.
    RESULT_LOST = "result_lost"
    #: The call ended long ago, and Modal has dropped its result.
    RESULT_EXPIRED = "result_expired"
    #: The result is larger than may be fetched.
    RESULT_TOO_LARGE = "result_too_large"
    #: S3 did not take the result for a long time.
    DELIVERY = "delivery"
    #: The request cannot be rendered as it is.
    INVALID_REQUEST = "invalid_request"
    #: The dataset cannot be trained on.
    DATASET_PROBLEM = "dataset_problem"
    #: No checkpoint of the job can be used or written.
    CHECKPOINT_PROBLEM = "checkpoint_problem"
    #: The checkpoints' volume is full; the last good one is kept.
    VOLUME_FULL = "volume_full"
    #: The loss is no number any more.
    TRAINING_DIVERGED = "training_diverged"
    #: A segment of a long run is over; the next one resumes. No failure.
    SEGMENT_ENDED = "segment_ended"
    #: A long run migrates back from Modal at a checkpoint: own GPUs are idle. No failure.
    MOVED_HOME = "moved_home"
    #: It waited for own GPUs until its slack was used up, and is decided about again. No failure.
    RECALLED = "recalled"
    #: This deployment has no engine for the job's kind.
    NO_ENGINE = "no_engine"
    #: What came back is no envelope of this version.
    BAD_ENVELOPE = "bad_envelope"


@dataclass(frozen=True)
class RetryRule:
    """How often a cause is forgiven, and how long the pauses are.

    The pause before retry n is `first_s * 2 ** (n - 1)`, at most `longest_s`, and of that a random half to whole, so
    that jobs that failed together do not come back together.
    """

    retries: int
    first_s: float = 1.0
    longest_s: float = 60.0

    def to_wire(self) -> dict[str, int]:
        """As the scripts want it."""
        return {
            "retries": self.retries,
            "first_ms": round(self.first_s * 1000),
            "longest_ms": round(self.longest_s * 1000),
        }

    def pause_s(self, nth: int, jitter: float) -> float:
        """The pause before the `nth` retry (1 is the first); `jitter` is a random share, 0.0 to 1.0."""
        return min(self.longest_s, self.first_s * 2.0 ** min(nth - 1, 30)) * (0.5 + jitter / 2)


#: A cause that is never forgiven.
NEVER = RetryRule(0)

#: The table. `Attempts.fail` and the sweeps use it.
RULES: Mapping[Cause, RetryRule] = {
    Cause.ERROR: RetryRule(2),
    Cause.CRASH: RetryRule(3),
    Cause.OUT_OF_MEMORY: RetryRule(2),
    Cause.TIMEOUT: RetryRule(2, first_s=5),
    Cause.PREEMPTED: RetryRule(20),
    Cause.CANCELLED_REMOTELY: RetryRule(20),
    Cause.GPU_EXHAUSTED: RetryRule(20, first_s=0),
    Cause.BUDGET: RetryRule(20, first_s=1),
    Cause.LEASE_LOST: RetryRule(5, first_s=0),
    Cause.SPAWN_REFUSED: RetryRule(20, first_s=2, longest_s=120),
    Cause.SPAWN_NOT_PREPARED: RetryRule(20, first_s=2, longest_s=120),
    Cause.SPAWN_LOST: RetryRule(8, first_s=2),
    Cause.NOT_ANNOUNCED: RetryRule(8, first_s=2),
    Cause.RESULT_LOST: RetryRule(3),
    Cause.RESULT_EXPIRED: RetryRule(3),
    Cause.RESULT_TOO_LARGE: RetryRule(0),
    Cause.DELIVERY: RetryRule(5, first_s=10),
    Cause.INVALID_REQUEST: RetryRule(0),
    Cause.DATASET_PROBLEM: RetryRule(0),
    Cause.CHECKPOINT_PROBLEM: RetryRule(2),
    Cause.VOLUME_FULL: RetryRule(0),
    Cause.TRAINING_DIVERGED: RetryRule(0),
    Cause.SEGMENT_ENDED: RetryRule(10_000, first_s=0),
    Cause.MOVED_HOME: RetryRule(100, first_s=0),
    Cause.RECALLED: RetryRule(10_000, first_s=0),
    Cause.NO_ENGINE: RetryRule(0),
    Cause.BAD_ENVELOPE: RetryRule(0),
}


def memory_named_in(message: str) -> Literal["cuda", "host"]:
    """Which memory ran out, as far as the error's own words tell: the GPU's (`cuda`), else the host's."""
    words = message.lower()
    return "cuda" if "cuda" in words or "gpu" in words or "hip out of memory" in words else "host"
