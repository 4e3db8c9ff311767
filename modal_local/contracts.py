"""What services ask of each other, as protocols: the edges between the subjects, in one place.

A service is built as `Service(context)`. It may also have `async start()` and `async stop()`, and `routes()` for HTTP.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from modal_local.rpc import Caller


class BlobFiles(Protocol):
    """What the blob service (`services/blobs.py: BlobService`) gives to the others."""

    def path_of(self, blob_id: str) -> Path:
        """The file that holds an uploaded blob. Raises NotFoundError for an unknown or unfinished one."""


class SecretEnvironments(Protocol):
    """What the secret service (`services/secrets.py: SecretService`) gives to containers."""

    def env_for(self, secret_ids: list[str]) -> dict[str, str]:
        """The variables of several secrets, the later ones winning. Raises NotFoundError."""


class Bind(Protocol):
    """A directory that a container sees at another place."""

    @property
    def source(self) -> Path:
        """A directory of the server's."""

    @property
    def target(self) -> Path:
        """The mount path in the container."""

    @property
    def read_only(self) -> bool:
        """Whether the container cannot write there."""


class MountPlan(Protocol):
    """How to start a container so that it sees its volumes."""

    @property
    def command_prefix(self) -> tuple[str, ...]:
        """Words to be put before the container's command; empty if there is nothing to do."""

    @property
    def mounts(self) -> Sequence["Bind"]:
        """What the prefix mounts."""

    @property
    def native(self) -> bool:
        """Whether a process with the server's rights may mount them itself, instead of the prefix."""


class VolumeMounts(Protocol):
    """What the volume service (`services/volumes.py: VolumeService`) gives to containers."""

    async def prepare_mounts(self, task_id: str, volume_mounts: Iterable[Any], others: Sequence[Any] = ()) -> MountPlan:
        """Makes the views that `VolumeMount`s ask for, and mounts `others` too (of `BucketMounts`).

        Raises NotFoundError, FailedPreconditionError.
        """

    async def VolumeGetById(self, request: Any, caller: "Caller") -> Any:  # noqa: N802 - named as the RPC
        """The RPC itself: containers are told the metadata of the volumes that they name."""

    async def detach(self, task_id: str, *, commit: bool) -> None:
        """Ends all views of a container: commits them first if it ended in good order. Unknown tasks are no error."""


class BucketMounts(Protocol):
    """What the service of cloud bucket mounts (`services/bucket_mounts.py: BucketMountService`) gives to containers."""

    async def prepare_buckets(self, mounts: Iterable[Any]) -> Sequence[Any]:
        """Has what `CloudBucketMount`s ask for at hand. Raises RpcError."""
