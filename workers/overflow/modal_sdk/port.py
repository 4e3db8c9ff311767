"""The port to Modal: what the overflow plane wants from it, in our words. `client` is the one implementation."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ledger.models import Kind
from modal_apps.announce import Announcement
from modal_apps.hints import CallHint
from modal_apps.uploads import UploadAddress


@dataclass(frozen=True)
class StillRunning:
    """The call has not ended, or not started yet."""


@dataclass(frozen=True)
class Returned:
    """The remote method returned something; an envelope, if all is well."""

    wire: Any


@dataclass(frozen=True)
class Raised:
    """The call has ended, and this is what its result raised."""

    error: BaseException


@dataclass(frozen=True)
class PollFailed:
    """The poll raised: that says nothing about the call, but for a few types that do."""

    error: BaseException
    #: The call has ended; what could not be fetched is its result.
    has_result: bool = False


PollResult = StillRunning | Returned | Raised | PollFailed


@dataclass(frozen=True)
class PoolStats:
    """How the containers of one GPU class stand."""

    #: Inputs that wait for a container.
    backlog: int
    #: Containers that run, busy or idle.
    runners: int
    running_inputs: int


class ModalCalls(Protocol):
    """What the overflow plane wants from Modal."""

    async def spawn(
        self,
        request: Mapping[str, object],
        *,
        attempt_of: tuple[str, int],
        gpu: str,
        timeout_s: float,
        upload_to: Mapping[str, UploadAddress] | None = None,
    ) -> str:
        """Start a call for a job's attempt on a GPU class, and return its id at once."""

    async def spawn_train(
        self, request: Mapping[str, object], *, attempt_of: tuple[str, int], gpu: str, timeout_s: float
    ) -> str:
        """Start a call that trains, and return its id at once."""

    async def poll(self, call_id: str) -> PollResult:
        """Ask how a call stands, without waiting for its end."""

    async def cancel(self, call_id: str) -> BaseException | None:
        """Cancel a call and stop the container it runs in. What went wrong, if anything."""

    async def probe(self) -> None:
        """Ask something cheap that needs the token and the deployed app; raises what the SDK raises."""

    async def hints(self, partition: int, *, limit: int, wait_s: float) -> Sequence[CallHint]:
        """Take hints out of a partition of the queue; waits `wait_s` for the first one."""

    def announced(self, *, page: int) -> AsyncIterator[Sequence[Announcement]]:
        """Announcements of calls that began and have not been removed since, in pages."""

    async def announcement(self, job_id: str, attempt: int) -> Announcement | None:
        """The announcement of an attempt's call; None: it never began. Raises what the SDK raises."""

    async def forget(self, announcement: Announcement) -> None:
        """Remove an announcement that is needed no more."""

    async def pool(self, gpu: str, *, kind: Kind = Kind.RENDER) -> PoolStats:
        """How the containers of a kind and GPU class stand; raises what the SDK raises."""

    async def keep_warm(
        self, gpu: str, *, min_containers: int, buffer_containers: int, scaledown_window_s: int | None
    ) -> None:
        """Set how many containers of a GPU class stay up; raises what the SDK raises."""


class SpawnTimedOut(Exception):
    """Modal did not answer a spawn in time. The call may exist."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"expected Modal to answer a spawn within {timeout_s:g} s, got no answer; the call may exist.")


class PollTimedOut(Exception):
    """Modal did not say in time how a call stands."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"expected Modal to say within {timeout_s:g} s how a call stands, got no answer.")


class ResultTooLarge(Exception):
    """A call's result is larger than this deployment holds in memory. It was not fetched."""

    def __init__(self, size_bytes: int | None, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        size = "of unknown size" if size_bytes is None else f"of {size_bytes} bytes"
        super().__init__(
            f"expected a result of at most {limit_bytes} bytes (OVERSPILL_MAX_RESULT_BYTES), got one {size}; it was "
            "not fetched. OVERSPILL_RESULT_TRANSPORT=presigned sends large videos straight to S3."
        )


class RaisedByMethod(Exception):
    """The remote method raised something that would end or confuse whoever raises it again, such as `SystemExit`."""


class ForbiddenPickle(Exception):
    """A container sent a pickle with something else in it than plain values and known exceptions. Nothing of it ran."""

    def __init__(self, what: str) -> None:
        super().__init__(f"expected plain values or an exception of Python's or Modal's own, got {what}.")
