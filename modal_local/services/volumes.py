"""Volumes of both versions: what is committed, what containers see of it, and the RPCs.

A container works in a view of its own (`volumes_views`): what it writes is seen by others only after a commit, and
what others committed is seen by it only after a reload. A commit lays the container's changes over what is committed,
so that for each path the last writer wins.

The container launcher uses a `VolumeService` so:

    plan = await volumes.prepare_mounts(task_id, function.volume_mounts)    # before the start
    process = start(*plan.command_prefix, *command)                         # same process id as without the prefix
    await volumes.release(task_id, commit=True)                             # after the end; False drops what it wrote

or, if it mounts by itself, `attach` for each volume and `detach` (see `modal_local.contracts.VolumeMounts`). `commit`
and `reload` are what the RPCs of the same names do; both may be called by the launcher too. A container that is killed
loses what it had not committed. (Modal's background commits would have saved a part of it.)
"""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import empty_pb2
from modal_proto import api_pb2

from modal_local.errors import FailedPreconditionError, NotFoundError
from modal_local.services import volumes_tree
from modal_local.services.named_objects import NamedObject
from modal_local.services.volumes_committed import CommittedVolumes
from modal_local.services.volumes_files import VolumeFileRpcs
from modal_local.services.volumes_mounts import (
    BindMount,
    MountPaths,
    MountPlan,
    link_target,
    namespace_command,
    plan_for,
)
from modal_local.services.volumes_views import View, accept, find_changes, lay_out, open_files

if TYPE_CHECKING:
    from aiohttp import web

    from modal_local.context import Context
    from modal_local.rpc import Caller

_VERSION: Final = "version"
# All containers' views are one where containers cannot have mounts of their own.
_SHARED: Final = "shared"


@dataclass(slots=True)
class _Attached:
    """A view, the lock that lets one commit or reload at a time touch it, and the tasks that use it."""

    view: View
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    tasks: set[str] = field(default_factory=set)


class VolumeService(VolumeFileRpcs):
    """Answers the Volume RPCs, and gives containers their views.

    Args:
        context: of the server.
        private_mounts: whether each container gets mounts of its own; None finds out whether the machine allows it.
    """

    def __init__(self, context: "Context", *, private_mounts: bool | None = None) -> None:
        super().__init__(context, CommittedVolumes(context))
        self._private_mounts = private_mounts
        self._views_directory = context.state_dir / "volume_views"
        shutil.rmtree(self._views_directory, ignore_errors=True)  # of containers that ended with the last server
        self._attached: dict[tuple[str, str], _Attached] = {}
        self._mount_paths = MountPaths()

    def routes(self) -> "list[web.RouteDef]":
        """The HTTP side: blocks."""
        return self._volumes.blocks.routes()

    async def VolumeGetOrCreate(self, request: Any, caller: "Caller") -> Any:
        """Finds or makes a volume; of version 1 unless another is asked for."""
        version = request.version or api_pb2.VOLUME_FS_VERSION_V1
        resolution = self._volumes.objects.resolve(
            request.deployment_name,
            request.environment_name,
            request.object_creation_type,
            app_id=request.app_id,
            properties={_VERSION: str(version)},
        )
        found = resolution.found
        if resolution.overwrite:
            self._volumes.commit(found.object_id, {})
        metadata = _metadata(found)
        return api_pb2.VolumeGetOrCreateResponse(volume_id=found.object_id, version=metadata.version, metadata=metadata)

    async def VolumeGetById(self, request: Any, caller: "Caller") -> Any:
        """Finds a volume."""
        found = self._volumes.objects.require(request.volume_id)
        return api_pb2.VolumeGetByIdResponse(volume_id=found.object_id, metadata=_metadata(found))

    async def VolumeHeartbeat(self, request: Any, caller: "Caller") -> Any:
        """Keeps an ephemeral volume."""
        self._volumes.objects.heartbeat(request.volume_id)
        return empty_pb2.Empty()

    async def VolumeList(self, request: Any, caller: "Caller") -> Any:
        """Named volumes, newest first."""
        items = [
            api_pb2.VolumeListItem(
                label=one.name, volume_id=one.object_id, created_at=one.created_at, metadata=_metadata(one)
            )
            for one in self._volumes.objects.page(request.environment_name, request.pagination)
        ]
        environment = self._context.environment(request.environment_name)
        return api_pb2.VolumeListResponse(items=items, environment_name=environment)

    async def VolumeRename(self, request: Any, caller: "Caller") -> Any:
        """Gives a volume another name."""
        self._volumes.objects.rename(request.volume_id, request.name)
        return empty_pb2.Empty()

    async def VolumeDelete(self, request: Any, caller: "Caller") -> Any:
        """Ends a volume. Containers keep their views until they end."""
        self._volumes.objects.delete(request.volume_id)
        return empty_pb2.Empty()

    async def VolumeCommit(self, request: Any, caller: "Caller") -> Any:
        """From a container: commits its changes. The SDK reloads right after."""
        await self.commit(_task_of(caller, "commit"), request.volume_id)
        return api_pb2.VolumeCommitResponse(skip_reload=False)

    async def VolumeReload(self, request: Any, caller: "Caller") -> Any:
        """From a container: shows it what is committed."""
        await self.reload(_task_of(caller, "reload"), request.volume_id)
        return empty_pb2.Empty()

    async def prepare_mounts(
        self, task_id: str, volume_mounts: Iterable[Any], others: Sequence[BindMount] = ()
    ) -> MountPlan:
        """Makes the views that a container's `VolumeMount`s ask for, and says how to start the container in them.

        `others` are directories that are ready, and that the container is to see too.

        Raises:
            NotFoundError: a volume is not there (any more).
            FailedPreconditionError: a mount path cannot be made.
        """
        try:
            return await self._prepare(task_id, volume_mounts, others)
        except BaseException:
            await self.release(task_id)
            raise

    async def _prepare(self, task_id: str, volume_mounts: Iterable[Any], others: Sequence[BindMount]) -> MountPlan:
        binds = list(others)
        for mount in volume_mounts:
            root = await self.attach(task_id, mount.volume_id, read_only=mount.read_only)
            inside = volumes_tree.normalize(mount.sub_path) if mount.HasField("sub_path") else ""
            source = root / inside
            await asyncio.to_thread(source.mkdir, parents=True, exist_ok=True)
            binds.append(BindMount(source, Path(mount.mount_path), mount.read_only))
        if not self._mounts_are_private():
            for bind in binds:
                link_target(bind.target, bind.source)
            return MountPlan()
        self._mount_paths.use(task_id, [bind.target for bind in binds])
        return plan_for(binds)

    async def attach(self, task_id: str, volume_id: str, *, read_only: bool) -> Path:
        """Makes the container's own view of the last committed state, once; returns its directory.

        Raises:
            NotFoundError: no such volume.
        """
        tree = self._volumes.tree(volume_id)
        key = (self._owner(task_id), volume_id)
        attached = self._attached.get(key)
        if attached is None:
            root = self._views_directory / key[0] / volume_id
            attached = self._attached[key] = _Attached(View(root, read_only))
            async with attached.lock:
                attached.tasks.add(task_id)
                try:
                    await asyncio.to_thread(lay_out, attached.view, tree, self._volumes.blocks)
                except BaseException:
                    del self._attached[key]
                    raise
        async with attached.lock:
            attached.tasks.add(task_id)
            attached.view.read_only = attached.view.read_only and read_only
        return attached.view.root

    async def commit(self, task_id: str, volume_id: str) -> None:
        """Lays a container's changes over what is committed. A read-only view has none.

        Raises:
            NotFoundError: the volume is gone, or the container does not mount it.
        """
        attached = self._require(task_id, volume_id)
        async with attached.lock:
            await self._commit(attached.view, volume_id)

    async def reload(self, task_id: str, volume_id: str) -> None:
        """Commits what the container has changed, then shows it what is committed.

        Raises:
            NotFoundError: the volume is gone, or the container does not mount it.
            FailedPreconditionError: the container holds files of the volume open.
        """
        attached = self._require(task_id, volume_id)
        async with attached.lock:
            held = await asyncio.to_thread(open_files, attached.view, task_id)
            if held:
                # The SDK looks for the first part of this sentence (`volume.py: reload`).
                raise FailedPreconditionError(f"there are open files preventing the operation: {'; '.join(held[:3])}")
            await self._commit(attached.view, volume_id)
            tree = self._volumes.tree(volume_id)
            await asyncio.to_thread(lay_out, attached.view, tree, self._volumes.blocks)

    async def release(self, task_id: str, *, commit: bool = False) -> None:
        """Ends all views of a container and removes what was made for it. An unknown task is no error."""
        for key, attached in list(self._attached.items()):
            if task_id in attached.tasks:
                async with attached.lock:
                    if commit:
                        await self._commit_last(attached.view, key[1])
                    attached.tasks.discard(task_id)
                    if not attached.tasks and self._attached.get(key) is attached:
                        del self._attached[key]
                        await asyncio.to_thread(shutil.rmtree, attached.view.root, ignore_errors=True)
        self._mount_paths.release(task_id)

    async def detach(self, task_id: str, *, commit: bool) -> None:
        """As `release`."""
        await self.release(task_id, commit=commit)

    async def _commit(self, view: View, volume_id: str) -> None:
        self._volumes.tree(volume_id)
        if view.read_only:
            return
        found = await asyncio.to_thread(find_changes, view, self._volumes.blocks)
        if found.changed or found.deleted:
            tree = volumes_tree.merged(
                self._volumes.tree(volume_id), found.changed, found.deleted, now_ns=self._volumes.now_ns()
            )
            self._volumes.commit(volume_id, tree)
        accept(view, found)

    async def _commit_last(self, view: View, volume_id: str) -> None:
        """The commit of a container that has ended: an error can only be logged."""
        try:
            await self._commit(view, volume_id)
        except (NotFoundError, OSError) as error:
            self._context.logger.warning("volume.commit_dropped", volume_id=volume_id, error=str(error))

    def _require(self, task_id: str, volume_id: str) -> _Attached:
        self._volumes.objects.require(volume_id)
        attached = self._attached.get((self._owner(task_id), volume_id))
        if attached is None or task_id not in attached.tasks:
            raise NotFoundError(f"Container {task_id} does not mount volume {volume_id}.")
        return attached

    def _owner(self, task_id: str) -> str:
        return task_id if self._mounts_are_private() else _SHARED

    def _mounts_are_private(self) -> bool:
        if self._private_mounts is None:
            self._private_mounts = namespace_command() is not None
        return self._private_mounts


def _task_of(caller: "Caller", what: str) -> str:
    if caller.task_id is None:
        raise FailedPreconditionError(f"Volume.{what}() works only in a container that mounts the volume.")
    return caller.task_id


def _metadata(one: NamedObject) -> Any:
    version: Any = int(one.properties[_VERSION])
    return api_pb2.VolumeMetadata(version=version, name=one.name, creation_info=one.creation_info)
