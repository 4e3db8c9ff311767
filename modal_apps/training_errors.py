"""What a training run ends with when it does not end well: the engine's errors as words of a bounded set."""

from engines.train.errors import (
    CheckpointProblem,
    DatasetProblem,
    DoesNotFit,
    InvalidTrainConfig,
    OutOfMemory,
    RankFailed,
    TorchMissing,
    TrainCancelled,
    TrainError,
    TrainingDiverged,
    VolumeFull,
)
from modal_apps.envelope import RemoteError

#: The engine's errors, and the word and whether another attempt may go better. What is not here is `error`.
_WORDS: tuple[tuple[type[Exception], str, bool], ...] = (
    (InvalidTrainConfig, "invalid_request", False),
    (DoesNotFit, "invalid_request", False),
    (DatasetProblem, "dataset_problem", False),
    (VolumeFull, "volume_full", False),
    (OutOfMemory, "out_of_memory", True),
    (MemoryError, "out_of_memory", True),
    (TrainingDiverged, "training_diverged", False),
    (TrainCancelled, "cancelled", True),
    (RankFailed, "crash", True),
    (TorchMissing, "no_engine", False),
)
#: Flaws of a checkpoint that no other attempt mends.
_FINAL_FLAWS = ("other_model", "unwritable")


def in_words(error: BaseException) -> RemoteError:
    """An error of a training run as a word, a sentence, and whether another attempt may go better."""
    if isinstance(error, CheckpointProblem):
        return RemoteError("checkpoint_problem", str(error), retryable=error.flaw not in _FINAL_FLAWS)
    for kind, word, retryable in _WORDS:
        if isinstance(error, kind):
            return RemoteError(word, str(error) or type(error).__name__, retryable)
    if isinstance(error, TrainError):
        return RemoteError("error", str(error), error.retryable)
    return RemoteError("error", f"{type(error).__name__}: {error}", retryable=True)
