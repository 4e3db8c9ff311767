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
| the poll raised `OutputExpiredError`, `NotFoundError` | expired, lost | a few times |
| a result beyond our bound | too large | never |
| the poll raised anything else | none: nothing is known about the call, it is polled again | |

The table is Modal's documented behaviour as seen with SDK 1.6.4. Which form a crash takes on Modal itself is not known
to us without an account, so every form that the SDK can show ends in an outcome here. Whether an exception is a result
or was raised by the poll, its origin tells (`modal_sdk/patches`): the types are the same.
"""

import errno
import math
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
from workers.overflow.breaker import FailureReason
from workers.overflow.modal_sdk.port import (
    PollFailed,
    PollResult,
    PollTimedOut,
    Raised,
    ResultTooLarge,
    Returned,
    SpawnTimedOut,
    StillRunning,
)


@dataclass(frozen=True)
class CallSucceeded:
    """A value came back."""

    envelope: Envelope


@dataclass(frozen=True)
class CallPending:
    """Not ended."""


@dataclass(frozen=True)
class CallUnknown:
    """The poll failed, or the result could not be fetched; that says nothing about how the call ended."""

    message: str
    #: What the breaker should know; None: nothing.
    reason: FailureReason | None = None
    #: It has ended; what could not be fetched is its result.
    has_result: bool = False


@dataclass(frozen=True)
class CallFailed:
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


CallOutcome = CallSucceeded | CallPending | CallUnknown | CallFailed

#: Modal's words where the kernel has killed a container for its memory: SIGKILL is 128 + 9.
_HOST_OUT_OF_MEMORY = re.compile(r"exit code:? ?137\b|\bout of memory\b|\boom[- ]?kill", re.IGNORECASE)
#: The one text of a cancelled call, ours and the platform's alike.
_CANCELLED = re.compile(r"\bcancell?ed\b", re.IGNORECASE)


def classify(result: PollResult) -> CallOutcome:
    """What a poll's result means."""
    match result:
        case StillRunning():
            return CallPending()
        case Returned(wire):
            return _of_answer(wire)
        case Raised(error):
            return _of_result(error)
        case PollFailed(error, has_result):
            return _of_poll_error(error, has_result=has_result)


def _of_answer(wire: object) -> CallOutcome:
    try:
        envelope = parse(wire)
        if not all(math.isfinite(at) for _, at in envelope.earlier):
            raise ValueError("a container that began at no time")  # noqa: TRY301 - it is one more wrong part
    except BadEnvelope as error:
        return CallFailed(Cause.BAD_ENVELOPE, str(error))
    except (ArithmeticError, TypeError, ValueError) as error:
        return CallFailed(Cause.BAD_ENVELOPE, f"an envelope with a part that cannot be read ({error!r})")
    if envelope.error is not None:
        cause = cause_of(envelope.error.cause)
        superseded = envelope.error.cause == SUPERSEDED.cause
        # (Containers of an earlier version say of it that it must not be run again.)
        retryable = envelope.error.retryable or superseded
        return CallFailed(cause, envelope.error.message, retryable, envelope, superseded=superseded)
    return CallSucceeded(envelope)


#: What a result may raise, and what it says about the call; all else is the method's own error. All of these may go
#: better another time.
_RESULTS: tuple[tuple[type[BaseException], Cause], ...] = (
    (FunctionTimeoutError, Cause.TIMEOUT),
    (ExecutionError, Cause.CRASH),
    (MemoryError, Cause.OUT_OF_MEMORY),
)


def _of_result(error: BaseException) -> CallFailed:
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, RemoteError | InternalFailure):
        return CallFailed(_cause_of_a_dead_container(error), text)
    return CallFailed(next((cause for kind, cause in _RESULTS if isinstance(error, kind)), Cause.ERROR), text)


def _of_poll_error(error: BaseException, *, has_result: bool) -> CallOutcome:
    text = f"{type(error).__name__}: {error}"
    match error:
        case ResultTooLarge():
            return CallFailed(Cause.RESULT_TOO_LARGE, text)
        case OutputExpiredError():
            return CallFailed(Cause.RESULT_EXPIRED, text)
        case NotFoundError():
            return CallFailed(Cause.RESULT_LOST, text, is_certain=has_result)
    # Where the store of results is away, Modal itself may be well.
    reason = None if has_result else _reason_of_poll_error(error)
    return CallUnknown(text, reason, has_result)


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
    """No call exists. `reason` None: Modal is well, and rejects this one call."""

    message: str
    reason: FailureReason | None = None
    #: The fault is this machine's (a full disk, no file handles): neither Modal's nor the job's.
    is_local: bool = False


@dataclass(frozen=True)
class MaybeCall:
    """The spawn's answer was lost: a call may exist."""

    message: str
    reason: FailureReason | None = None


#: What the SDK raises instead of an id: whether no call can exist, and what the breaker should know.
_SPAWN_ERRORS: tuple[tuple[tuple[type[BaseException], ...], bool, FailureReason | None], ...] = (
    ((AuthError, PermissionDeniedError), True, FailureReason.TOKEN_REFUSED),
    ((NotFoundError,), True, FailureReason.NOT_DEPLOYED),
    ((ResourceExhaustedError,), True, FailureReason.THROTTLED),
    # Modal rejects this version of the SDK, whatever the job.
    ((VersionError, UnimplementedError), True, FailureReason.UNAVAILABLE),
    ((SpawnTimedOut, PollTimedOut), False, FailureReason.TIMED_OUT),
    # Aborted, or not possible just now. (The SDK counts it among the errors of what is asked for.)
    ((ConflictError,), False, FailureReason.UNAVAILABLE),
    ((InvalidError, RequestSizeError), True, None),
    ((ModalError, ClientError, OSError), False, FailureReason.UNAVAILABLE),
)


def _reason_of_poll_error(error: BaseException) -> FailureReason | None:
    """What the breaker should know of it; None: it is this machine's own error, or of unknown origin."""
    if is_local(error):
        return None
    found = next((reason for kinds, _, reason in _SPAWN_ERRORS if isinstance(error, kinds)), None)
    return found or (FailureReason.UNAVAILABLE if isinstance(error, ModalError) else None)


#: What an operating system refuses for lack of its own: disk, file handles, memory.
_LOCAL_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


def is_local(error: BaseException) -> bool:
    """Whether an error is one of this machine's disk, file handles or memory, and says nothing about Modal."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, OSError) and (error.errno in _LOCAL_ERRNOS or error.filename is not None)


def classify_spawn_error(error: BaseException) -> NoCall | MaybeCall:
    """What a failed spawn means."""
    text = f"{type(error).__name__}: {error}"
    if is_local(error):
        return NoCall(text, is_local=True)
    for kinds, no_call, reason in _SPAWN_ERRORS:
        if isinstance(error, kinds):
            return NoCall(text, reason) if no_call else MaybeCall(text, reason)
    return MaybeCall(text)


def failure_reason_of(error: BaseException) -> FailureReason:
    """What a probe that failed says about Modal."""
    return classify_spawn_error(error).reason or FailureReason.UNAVAILABLE
