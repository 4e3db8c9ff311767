"""From the words of an error to the ledger's cause: one table for whatever ran, in-house or on Modal. Pure."""

from collections.abc import Mapping

from ledger.retries import Cause
from modal_apps.announce import NOT_ANNOUNCED, SUPERSEDED

#: The words of an envelope's error (modal_apps/envelope.py), and of a training run's (modal_apps/training_errors.py).
_CAUSES: Mapping[str, Cause] = {
    "error": Cause.ERROR,
    "crash": Cause.CRASH,
    "invalid_request": Cause.INVALID_REQUEST,
    "no_engine": Cause.NO_ENGINE,
    "out_of_memory": Cause.OUT_OF_MEMORY,
    "cancelled": Cause.PREEMPTED,
    # Two calls of one attempt, and this one left. If the other cannot be followed in its place, it is run again.
    SUPERSEDED.cause: Cause.SPAWN_LOST,
    NOT_ANNOUNCED: Cause.NOT_ANNOUNCED,
    "result_too_large": Cause.RESULT_TOO_LARGE,
    "upload_failed": Cause.DELIVERY,
    # Of training runs.
    "dataset_problem": Cause.DATASET_PROBLEM,
    "checkpoint_problem": Cause.CHECKPOINT_PROBLEM,
    "volume_full": Cause.VOLUME_FULL,
    "training_diverged": Cause.TRAINING_DIVERGED,
}


def cause_of(word: str) -> Cause:
    """The cause that a word stands for; one that is unknown (a newer container's) is an error."""
    return _CAUSES.get(word, Cause.ERROR)
