"""How a call ended: one classifier from what came back to an outcome, by type and never by elapsed time.

| what comes back | outcome | tried again |
| --- | --- | --- |
| an envelope with a value | completed | |
| an envelope with an error | as it says: user error, out of memory, preempted, ... | as it says |
| no envelope of this version | bad envelope | never: the app must be deployed anew |
| a result: `FunctionTimeoutError` | timeout | a few times |
| a result: `InternalFailure`, `ExecutionError`, `RemoteError` | crash; out of memory for exit code 137 | a few times |
| a result: `RemoteError` that speaks of a cancellation | cancelled, by us (the ledger knows) or the platform | often |
| a result: any other exception, whatever its type | user error | twice |
| asking raised `OutputExpiredError`, `NotFoundError` | expired, lost | a few times |
| a result beyond our bound | too large | never |
| asking raised anything else | none: nothing is known about the call, it is asked about again | |

The table is Modal's documented behaviour as seen with SDK 1.6.4. Which form a crash takes on Modal itself is not known
to us without an account, so every form that the SDK can show ends in an outcome here. Whether an exception is a result
or was raised by asking, `origin` tells: the types are the same.
"""

import re
from dataclasses import dataclass

from aiohttp import ClientError
from modal.exception import (
    AuthError,
    ConflictError,
    ExecutionError,
    FunctionTimeoutError,
    InternalFailure,
    InvalidError,
    NotFoundError,
    OutputExpiredError,
    PermissionDeniedError,
    RemoteError,
    RequestSizeError,
    ResourceExhaustedError,
    UnimplementedError,
    VersionError,
)
from modal.exception import Error as ModalError

from ledger.retries import Cause
from modal_apps.announce import SUPERSEDED
from modal_apps.envelope import BadEnvelope, Envelope, parse
from workers.causes import cause_of
from workers.overflow.breaker import Trouble
from workers.overflow.calls import (
    Answered,
    Look,
    LookTimedOut,
    NotAsked,
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
    """Modal could not be asked, or the result not be fetched; that says nothing about how the call ended."""

    reason: str
    #: What the breaker should know; None: nothing.
    trouble: Trouble | None = None
    #: It has ended; what could not be had is its result.
    has_result: bool = False


@dataclass(frozen=True)
class Ended:
    """It ended without a value. `envelope` is there when the method itself said so."""

    cause: Cause
    message: str
    #: False: the method itself said that another attempt cannot help.
    retryable: bool = True
    envelope: Envelope | None = None
    #: False: Modal does not know the call, which is no proof that it does not run.
    is_certain: bool = True
    #: It left because another call of its attempt works, which had announced itself first.
    superseded: bool = False


Ending = Succeeded | Pending | AskAgain | Ended

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
            return _of_result(error)
        case NotAsked(error, has_result):
            return _of_asking(error, has_result=has_result)


def _of_answer(wire: object) -> Ending:
    try:
        envelope = parse(wire)
    except BadEnvelope as error:
        return Ended(Cause.BAD_ENVELOPE, str(error))
    if envelope.error is not None:
        cause = cause_of(envelope.error.cause)
        superseded = envelope.error.cause == SUPERSEDED.cause
        # (Containers of an earlier version say of it that it must not be run again.)
        retryable = envelope.error.retryable or superseded
        return Ended(cause, envelope.error.message, retryable, envelope, superseded=superseded)
    return Succeeded(envelope)


#: What a result may raise, and what it says about the call; all else is the method's own error. All of these may go
#: better another time.
_RESULTS: tuple[tuple[type[BaseException], Cause], ...] = (
    (FunctionTimeoutError, Cause.TIMEOUT),
    (ExecutionError, Cause.CRASH),
    (MemoryError, Cause.OUT_OF_MEMORY),
)


def _of_result(error: BaseException) -> Ended:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, RemoteError | InternalFailure):
        return Ended(_cause_of_a_dead_container(error), text)
    return Ended(next((cause for kind, cause in _RESULTS if isinstance(error, kind)), Cause.ERROR), text)


def _of_asking(error: BaseException, *, has_result: bool) -> Ending:
    text = f"{type(error).__name__}: {error}"
    match error:
        case ResultTooLarge():
            return Ended(Cause.RESULT_TOO_LARGE, text)
        case OutputExpiredError():
            return Ended(Cause.RESULT_EXPIRED, text)
        case NotFoundError():
            return Ended(Cause.RESULT_LOST, text, is_certain=has_result)
    # Where the store of results is away, Modal itself may be well.
    trouble = None if has_result else _trouble_with_asking(error)
    return AskAgain(text, trouble, has_result)


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
    ((AuthError, PermissionDeniedError), True, Trouble.TOKEN_REFUSED),
    ((NotFoundError,), True, Trouble.NOT_DEPLOYED),
    ((ResourceExhaustedError,), True, Trouble.THROTTLED),
    # Modal will not have us as we are, whatever the job.
    ((VersionError, UnimplementedError), True, Trouble.UNAVAILABLE),
    ((SpawnTimedOut, LookTimedOut), False, Trouble.TIMED_OUT),
    # Aborted, or not possible just now. (The SDK counts it among the errors of what is asked for.)
    ((ConflictError,), False, Trouble.UNAVAILABLE),
    ((InvalidError, RequestSizeError), True, None),
    ((ModalError, ClientError, OSError), False, Trouble.UNAVAILABLE),
)


def _trouble_with_asking(error: BaseException) -> Trouble | None:
    """What the breaker should know of it; None: it came from nowhere that we know."""
    found = next((trouble for kinds, _, trouble in _SPAWN_ERRORS if isinstance(error, kinds)), None)
    return found or (Trouble.UNAVAILABLE if isinstance(error, ModalError) else None)


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
