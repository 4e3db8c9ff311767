"""Volumes where a test has to hold the clock, count calls or restart the server: the real SDK, the services alone."""

import asyncio
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal
import pytest
from modal.exception import NotFoundError
from modal_proto import api_pb2

from modal_local.context import Context
from modal_local.errors import FailedPreconditionError
from modal_local.errors import NotFoundError as ServerNotFoundError
from modal_local.rpc import Caller
from modal_local.services.blobs import BlobService
from modal_local.services.mounts import MountService
from modal_local.services.volumes import VolumeService
from modal_local.settings import Settings
from modal_local.store import Store
from tests.support.storage_server import StorageServer, storage_server

BLOCK = 8 * 1024**2


def services(context: Any) -> list[object]:
    blobs = BlobService(context)
    return [blobs, MountService(context, blobs), VolumeService(context)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StorageServer]:
    with storage_server(tmp_path / "state", services) as running:
        yield running


@pytest.fixture
def client(server: StorageServer) -> Iterator[modal.Client]:
    with server.client() as one:
        yield one


def read(volume: modal.Volume, path: str) -> bytes:
    return b"".join(volume.read_file(path))


def put(volume: modal.Volume, files: dict[str, bytes], *, force: bool = False) -> None:
    with volume.batch_upload(force=force) as batch:
        for path, content in files.items():
            batch.put_file(io.BytesIO(content), path)


def test_an_upload_of_what_is_there_sends_nothing_again(client: modal.Client, server: StorageServer) -> None:
    volume = modal.Volume.from_name("two", create_if_missing=True, version=2, client=client)
    content = os.urandom(BLOCK)
    put(volume, {"a": content})
    asked = server.calls("VolumePutFiles2")
    put(volume, {"b": content})
    # one call and not two: no block was missing
    assert server.calls("VolumePutFiles2") == asked + 1
    assert read(volume, "b") == content


def test_an_ephemeral_volume_ends_without_heartbeats(client: modal.Client, server: StorageServer) -> None:
    with modal.Volume.ephemeral(client=client, _heartbeat_sleep=3600) as volume:
        put(volume, {"f": b"f"})
        server.context.clock.skew_s += 2000
        with pytest.raises(NotFoundError):
            volume.listdir("/")


def test_a_restart_keeps_files_and_drops_what_is_not_used(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with storage_server(state, services) as first, first.client() as client:
        volume = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)
        put(volume, {"kept": b"kept", "removed": b"removed"})
        volume.remove_file("removed")
        blocks = len(list((state / "volume_blocks").glob("*/*")))
    with storage_server(state, services) as second, second.client() as client:
        assert read(modal.Volume.from_name("data", client=client), "kept") == b"kept"
        assert len(list((state / "volume_blocks").glob("*/*"))) == blocks - 1


def service_on(tmp_path: Path, *, private_mounts: bool) -> VolumeService:
    context = Context(store=Store(None), settings=Settings(), state_dir=tmp_path / "state")
    return VolumeService(context, private_mounts=private_mounts)


async def new_volume(service: VolumeService) -> str:
    request = api_pb2.VolumeGetOrCreateRequest(object_creation_type=api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL)
    response = await service.VolumeGetOrCreate(request, Caller("client"))
    volume_id: str = response.volume_id
    return volume_id


def test_a_killed_container_loses_what_it_had_not_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        # given a container that has committed one file and only written another
        service = service_on(tmp_path, private_mounts=True)
        volume_id = await new_volume(service)
        view = await service.attach("ta-1", volume_id, read_only=False)
        (view / "committed").write_text("x")
        await service.commit("ta-1", volume_id)
        (view / "written").write_text("x")
        # when it is killed
        await service.release("ta-1")
        # then the next one sees the first file alone, and nothing of the dead one's view is left
        assert not view.exists()
        following = await service.attach("ta-2", volume_id, read_only=False)
        assert [one.name for one in following.iterdir()] == ["committed"]
        await service.release("ta-2")
        await service.release("ta-nobody")

    asyncio.run(scenario())


def test_a_container_that_does_not_mount_a_volume_cannot_commit_or_reload_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = service_on(tmp_path, private_mounts=True)
        volume_id = await new_volume(service)
        await service.attach("ta-1", volume_id, read_only=False)
        for act in (service.commit, service.reload):
            with pytest.raises(ServerNotFoundError):
                await act("ta-2", volume_id)
            with pytest.raises(ServerNotFoundError):
                await act("ta-1", "vo-nowhere")
        with pytest.raises(FailedPreconditionError):
            await service.VolumeCommit(api_pb2.VolumeCommitRequest(volume_id=volume_id), Caller("client"))

    asyncio.run(scenario())


def test_a_read_only_view_is_never_committed(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = service_on(tmp_path, private_mounts=True)
        volume_id = await new_volume(service)
        view = await service.attach("ta-1", volume_id, read_only=True)
        (view / "x").write_text("x")
        await service.release("ta-1", commit=True)
        following = await service.attach("ta-2", volume_id, read_only=False)
        assert list(following.iterdir()) == []

    asyncio.run(scenario())


def test_a_volume_deleted_under_a_container_is_no_error_at_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = service_on(tmp_path, private_mounts=True)
        volume_id = await new_volume(service)
        view = await service.attach("ta-1", volume_id, read_only=False)
        (view / "x").write_text("x")
        await service.VolumeDelete(api_pb2.VolumeDeleteRequest(volume_id=volume_id), Caller("client"))
        await service.release("ta-1", commit=True)
        assert not view.exists()

    asyncio.run(scenario())


def test_without_private_mounts_containers_share_a_directory_by_a_link(tmp_path: Path) -> None:
    async def scenario() -> None:
        # given a machine that allows no mounts
        service = service_on(tmp_path, private_mounts=False)
        volume_id = await new_volume(service)
        target = tmp_path / "mnt" / "data"
        mounts = [api_pb2.VolumeMount(volume_id=volume_id, mount_path=str(target))]
        # when two containers mount a volume at one path
        for task_id in ("ta-1", "ta-2"):
            assert (await service.prepare_mounts(task_id, mounts)).command_prefix == ()
        # then both work in one directory there, and the volume outlives the first
        (target / "x").write_text("x")
        await service.commit("ta-1", volume_id)
        await service.release("ta-1")
        assert (target / "x").read_text() == "x"
        await service.release("ta-2")
        # a third one has what was committed, at the same path
        await service.prepare_mounts("ta-3", mounts)
        assert (target / "x").read_text() == "x"
        await service.release("ta-3")

    asyncio.run(scenario())


def test_a_mount_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        service = service_on(tmp_path, private_mounts=True)
        volume_id = await new_volume(service)
        (tmp_path / "file").write_text("in the way")
        mounts = [
            api_pb2.VolumeMount(volume_id=volume_id, mount_path=str(tmp_path / "fine")),
            api_pb2.VolumeMount(volume_id=volume_id, mount_path=str(tmp_path / "file")),
        ]
        with pytest.raises(FailedPreconditionError, match="file is there"):
            await service.prepare_mounts("ta-1", mounts)
        assert not (tmp_path / "fine").exists()
        assert not (tmp_path / "state" / "volume_views" / "ta-1" / volume_id).exists()
        with pytest.raises(ServerNotFoundError):
            await service.prepare_mounts("ta-1", [api_pb2.VolumeMount(volume_id="vo-nowhere", mount_path="/mnt/x")])

    asyncio.run(scenario())
