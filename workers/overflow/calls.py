"""The port to Modal: what the overflow plane wants from it, in our words. `sdk` is the one implementation."""

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
class Answered:
    """The remote method returned something; an envelope, if all is well."""

    wire: Any


@dataclass(frozen=True)
class Raised:
    """The call has ended, and this is what its result raised."""

    error: BaseException


@dataclass(frozen=True)
class NotAsked:
    """Asking raised: that says nothing about the call, but for a few types that do."""

    error: BaseException
    #: The call has ended: it was its result that could not be fetched.
    has_result: bool = False


Look = StillRunning | Answered | Raised | NotAsked


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

    async def look(self, call_id: str) -> Look:
        """See how a call stands, without waiting."""

    async def stop(self, call_id: str) -> BaseException | None:
        """Stop a call and the container it runs in. What went wrong, if anything."""

    async def probe(self) -> None:
        """Ask something cheap that needs the token and the deployed app; raises what the SDK raises."""

    async def hints(self, partition: int, *, limit: int, wait_s: float) -> Sequence[CallHint]:
        """Take hints out of a partition of the queue; waits so long for the first one."""

    def announced(self, *, page: int) -> AsyncIterator[Sequence[Announcement]]:
        """Calls that have said that they began and have not been forgotten since, in pages."""

    async def announcement(self, job_id: str, attempt: int) -> Announcement | None:
        """What an attempt's call has said of itself; None: it never began. Raises what the SDK raises."""

    async def forget(self, announcement: Announcement) -> None:
        """Remove an announcement that has served."""

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


class LookTimedOut(Exception):
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
