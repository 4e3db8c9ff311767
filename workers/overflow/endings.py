"""How a call ended: one classifier from what came back to an outcome, by type and never by elapsed time.

The table is Modal's documented behaviour as seen with SDK 1.6.4. Which form a crash takes on Modal itself is not known
to us without an account, so every form that the SDK can show ends in an outcome here.
"""

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
from workers.overflow.calls import Answered, Look, Raised, SpawnTimedOut, StillRunning


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
    "error": Cause.ERROR,
}

Ending = Succeeded | Pending | AskAgain | Ended

#: Modal cannot be asked right now; nothing is known about the call.
_CANNOT_ASK = (ServiceError, ModalConnectionError, ResourceExhaustedError, AuthError, OSError)


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
    (OutputExpiredError, Cause.RESULT_LOST),
    (FunctionTimeoutError, Cause.TIMEOUT),
    (NotFoundError, Cause.RESULT_LOST),
    # Modal says "cancelled by user or a failure" for our cancels and for its own; the ledger knows ours.
    (RemoteError, Cause.PREEMPTED),
    (InternalFailure, Cause.CRASH),
    (ExecutionError, Cause.CRASH),
    (MemoryError, Cause.OUT_OF_MEMORY),
    # A remote method's own one. Python counts it among the OSErrors, which would say that Modal could not be asked.
    (TimeoutError, Cause.ERROR),
)


def _of_exception(error: BaseException) -> Ending:
    text = f"{type(error).__name__}: {error}"
    cause = next((cause for kind, cause in _CAUSES if isinstance(error, kind)), None)
    if cause is not None:
        return Ended(cause, text)
    if isinstance(error, _CANNOT_ASK):
        return AskAgain(text)
    return Ended(Cause.ERROR, text)


@dataclass(frozen=True)
class NoCall:
    """The spawn was refused: no call exists."""

    message: str


@dataclass(frozen=True)
class MaybeCall:
    """The spawn's answer was lost: a call may exist."""

    message: str


def classify_spawn_error(error: BaseException) -> NoCall | MaybeCall:
    """What a failed spawn means."""
    text = f"{type(error).__name__}: {error}"
    match error:
        case AuthError() | NotFoundError() | InvalidError() | ResourceExhaustedError():
            return NoCall(text)
        case SpawnTimedOut():
            return MaybeCall(text)
        case _:
            return MaybeCall(text)
