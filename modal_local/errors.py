"""The errors that an RPC may end with: a small tree, one class for each gRPC status that we send."""

from typing import TYPE_CHECKING, Any, ClassVar

from grpclib.const import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message


class ModalLocalError(Exception):
    """Anything that modal_local itself reports: a start that failed, a setting that makes no sense."""


class RpcError(ModalLocalError):
    """An RPC's answer that is not OK.

    Args:
        message: a sentence for the caller: what was expected, what came, what to do.
        retry_after_s: when set, the answer carries a retry policy and the SDK waits and tries again, without limit.
        details: further protobuf messages for the status details.
        status: overrides the class's own gRPC status.
    """

    status: Status = Status.UNKNOWN
    default_status: ClassVar[Status] = Status.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        details: "Sequence[Message]" = (),
        status: Status | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.details: list[Any] = list(details)
        self.status = status or self.default_status


class NotFoundError(RpcError):
    """The named object does not exist."""

    default_status = Status.NOT_FOUND


class InvalidArgumentError(RpcError):
    """The request is wrong in itself."""

    default_status = Status.INVALID_ARGUMENT


class AlreadyExistsError(RpcError):
    """What was to be created is already there."""

    default_status = Status.ALREADY_EXISTS


class FailedPreconditionError(RpcError):
    """The request is right, the state of things is not."""

    default_status = Status.FAILED_PRECONDITION


class ResourceExhaustedError(RpcError):
    """A limit is reached."""

    default_status = Status.RESOURCE_EXHAUSTED


class UnauthenticatedError(RpcError):
    """No token, or a wrong one."""

    default_status = Status.UNAUTHENTICATED


class PermissionDeniedError(RpcError):
    """The caller is known, but may not do this."""

    default_status = Status.PERMISSION_DENIED


class UnimplementedError(RpcError):
    """The RPC exists in the protocol, but is not served here."""

    default_status = Status.UNIMPLEMENTED


class UnavailableError(RpcError):
    """The server cannot answer now."""

    default_status = Status.UNAVAILABLE


class InternalError(RpcError):
    """A fault of the server itself."""

    default_status = Status.INTERNAL


class DeadlineExceededError(RpcError):
    """The time that the caller gave is over."""

    default_status = Status.DEADLINE_EXCEEDED
