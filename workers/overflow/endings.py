"""How a call ended: one classifier from what came back to an outcome, by type and never by elapsed time.

The table is Modal's documented behaviour as seen with SDK 1.6.4. Which form a crash takes on Modal itself is not known
to us without an account, so every form that the SDK can show ends in an outcome here.
"""

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

    cause: str
    message: str
    retryable: bool
    envelope: Envelope | None = None


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
        return Ended("bad_envelope", str(error), retryable=False)
    if envelope.error is not None:
        return Ended(envelope.error.cause, envelope.error.message, envelope.error.retryable, envelope)
    return Succeeded(envelope)


#: Exception types, most specific first, and what each says about the call. All of these may go better another time.
_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (OutputExpiredError, "expired"),
    (FunctionTimeoutError, "timeout"),
    (NotFoundError, "lost"),
    # Modal says "cancelled by user or a failure" for our cancels and for its own; the ledger knows ours.
    (RemoteError, "cancelled_by_platform"),
    (InternalFailure, "crash"),
    (ExecutionError, "crash"),
    (MemoryError, "out_of_memory"),
    # A remote method's own one. Python counts it among the OSErrors, which would say that Modal could not be asked.
    (TimeoutError, "error"),
)


def _of_exception(error: BaseException) -> Ending:
    text = f"{type(error).__name__}: {error}"
    cause = next((cause for kind, cause in _CAUSES if isinstance(error, kind)), None)
    if cause is not None:
        return Ended(cause, text, retryable=True)
    if isinstance(error, _CANNOT_ASK):
        return AskAgain(text)
    return Ended("error", text, retryable=True)


@dataclass(frozen=True)
class NoCall:
    """The spawn was refused: no call exists."""

    cause: str
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
            return NoCall("spawn_refused", text)
        case SpawnTimedOut():
            return MaybeCall(text)
        case _:
            return MaybeCall(text)
