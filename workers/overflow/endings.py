"""How a call ended: one classifier from what came back to an outcome, by type and never by elapsed time.

| what comes back | outcome | tried again |
| --- | --- | --- |
| an envelope with a value | completed | |
| an envelope with an error | as it says: user error, out of memory, preempted, ... | as it says |
| no envelope of this version | bad envelope | never: the app must be deployed anew |
| `FunctionTimeoutError` | timeout | a few times |
| `InternalFailure`, `ExecutionError`, `RemoteError` | crash; out of memory where it names exit code 137 | a few times |
| `RemoteError` that speaks of a cancellation | cancelled, by us (the ledger knows) or by the platform | often |
| `OutputExpiredError`, `NotFoundError` | expired, lost | a few times |
| a result beyond our bound | too large | never |
| anything else that the method raised | user error | twice |

The table is Modal's documented behaviour as seen with SDK 1.6.4. Which form a crash takes on Modal itself is not known
to us without an account, so every form that the SDK can show ends in an outcome here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from modal.exception import (
    AuthError,
    ExecutionError,
    FunctionTimeoutError,
    InternalFailure,
    InvalidError,
    NotFoundError,
    OutputExpiredError,
    RemoteError,
    ResourceExhaustedError,
    ServiceError,
)
from modal.exception import (
    ConnectionError as ModalConnectionError,
)

from ledger.retries import Cause
from modal_apps.envelope import BadEnvelope, Envelope, parse
from workers.overflow.breaker import Trouble
from workers.overflow.calls import (
    Answered,
    Look,
    LookTimedOut,
    Raised,
    ResultTooLarge,
    SpawnTimedOut,
    StillRunning,
)


@dataclass(frozen=True)
class Succeeded:
    """A value came back."""

    envelope: Envelope


@dataclass(frozen=True)
class Pending:
    """Not ended."""


@dataclass(frozen=True)
class AskAgain:
    """Modal could not be asked; that says nothing about the call."""

    reason: str
    #: What the breaker should know; None: nothing.
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Ended:
    """It ended without a value. `envelope` is there when the method itself said so."""

    cause: Cause
    message: str
    #: False: the method itself said that another attempt cannot help.
    retryable: bool = True
    envelope: Envelope | None = None


#: The words of an envelope's error, and what they are to the ledger.
REMOTE_CAUSES: Mapping[str, Cause] = {
    "invalid_request": Cause.INVALID_REQUEST,
    "out_of_memory": Cause.OUT_OF_MEMORY,
    "cancelled": Cause.PREEMPTED,
    # Only a call that we do not follow can be told so; if one is, its attempt is run again.
    "superseded": Cause.SPAWN_LOST,
    "result_too_large": Cause.RESULT_TOO_LARGE,
    "upload_failed": Cause.DELIVERY,
    "error": Cause.ERROR,
    # Of training runs (modal_apps/training_errors.py).
    "dataset_problem": Cause.DATASET_PROBLEM,
    "checkpoint_problem": Cause.CHECKPOINT_PROBLEM,
    "volume_full": Cause.VOLUME_FULL,
    "training_diverged": Cause.TRAINING_DIVERGED,
    "crash": Cause.CRASH,
    "no_engine": Cause.NO_ENGINE,
}

Ending = Succeeded | Pending | AskAgain | Ended

#: Modal cannot be asked right now; nothing is known about the call.
_CANNOT_ASK = (ServiceError, ModalConnectionError, ResourceExhaustedError, AuthError, LookTimedOut, OSError)

#: Modal's words where the kernel has killed a container for its memory: SIGKILL is 128 + 9.
_HOST_OUT_OF_MEMORY = re.compile(r"exit code:? ?137\b|\bout of memory\b|\boom[- ]?kill", re.IGNORECASE)
#: The one text of a cancelled call, ours and the platform's alike.
_CANCELLED = re.compile(r"\bcancell?ed\b", re.IGNORECASE)


def classify(look: Look) -> Ending:
    """What a look at a call means."""
    match look:
        case StillRunning():
            return Pending()
        case Answered(wire):
            return _of_answer(wire)
        case Raised(error):
            return _of_exception(error)


def _of_answer(wire: object) -> Ending:
    try:
        envelope = parse(wire)
    except BadEnvelope as error:
        return Ended(Cause.BAD_ENVELOPE, str(error))
    if envelope.error is not None:
        cause = REMOTE_CAUSES.get(envelope.error.cause, Cause.ERROR)
        return Ended(cause, envelope.error.message, envelope.error.retryable, envelope)
    return Succeeded(envelope)


#: Exception types, most specific first, and what each says about the call. All of these may go better another time.
_CAUSES: tuple[tuple[type[BaseException], Cause], ...] = (
    (ResultTooLarge, Cause.RESULT_TOO_LARGE),
    (OutputExpiredError, Cause.RESULT_EXPIRED),
    (FunctionTimeoutError, Cause.TIMEOUT),
    (NotFoundError, Cause.RESULT_LOST),
    (InternalFailure, Cause.CRASH),
    (ExecutionError, Cause.CRASH),
    (MemoryError, Cause.OUT_OF_MEMORY),
    # A remote method's own one. Python counts it among the OSErrors, which would say that Modal could not be asked.
    (TimeoutError, Cause.ERROR),
)


def _of_exception(error: BaseException) -> Ending:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, RemoteError | InternalFailure):
        return Ended(_cause_of_a_dead_container(error), text)
    cause = next((cause for kind, cause in _CAUSES if isinstance(error, kind)), None)
    if cause is not None:
        return Ended(cause, text)
    if isinstance(error, _CANNOT_ASK):
        return AskAgain(text, Trouble.TOKEN_REFUSED if isinstance(error, AuthError) else None)
    return Ended(Cause.ERROR, text)


def _cause_of_a_dead_container(error: RemoteError | InternalFailure) -> Cause:
    """The SDK has one type for a container that died and one for a call that was cancelled; the text tells which."""
    if _HOST_OUT_OF_MEMORY.search(str(error)):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, RemoteError) and _CANCELLED.search(str(error)):
        # For our cancels and for the platform's own the text is the same; ours are in the ledger, and end there.
        return Cause.CANCELLED_REMOTELY
    return Cause.CRASH


@dataclass(frozen=True)
class NoCall:
    """The spawn was refused: no call exists. `trouble` None: Modal is well, and will not have this one call."""

    message: str
    trouble: Trouble | None = None


@dataclass(frozen=True)
class MaybeCall:
    """The spawn's answer was lost: a call may exist."""

    message: str
    trouble: Trouble | None = None


#: What the SDK raises instead of an id: whether no call can exist, and what the breaker should know.
_SPAWN_ERRORS: tuple[tuple[tuple[type[BaseException], ...], bool, Trouble | None], ...] = (
    ((AuthError,), True, Trouble.TOKEN_REFUSED),
    ((NotFoundError,), True, Trouble.NOT_DEPLOYED),
    ((ResourceExhaustedError,), True, Trouble.THROTTLED),
    ((InvalidError,), True, None),
    ((SpawnTimedOut,), False, Trouble.TIMED_OUT),
    ((ServiceError, ModalConnectionError, OSError), False, Trouble.UNAVAILABLE),
)


def classify_spawn_error(error: BaseException) -> NoCall | MaybeCall:
    """What a failed spawn means."""
    text = f"{type(error).__name__}: {error}"
    for kinds, no_call, trouble in _SPAWN_ERRORS:
        if isinstance(error, kinds):
            return NoCall(text, trouble) if no_call else MaybeCall(text, trouble)
    return MaybeCall(text)


def trouble_of(error: BaseException) -> Trouble:
    """What a probe that failed says about Modal."""
    return classify_spawn_error(error).trouble or Trouble.UNAVAILABLE
