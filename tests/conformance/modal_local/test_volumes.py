"""Volumes of both versions through the public SDK and CLI, from outside of containers."""

import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import modal
import pytest
from modal.exception import AlreadyExistsError, InvalidError, NotFoundError
from modal.types import FileEntryType

from .conftest import Target

pytestmark = pytest.mark.modal_conformance

BLOCK = 8 * 1024**2


@pytest.fixture
def client(bare_target: Target) -> modal.Client:
    return bare_target.client


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def data(client: modal.Client, request: pytest.FixtureRequest, unique: str) -> Iterator[modal.Volume]:
    yield modal.Volume.from_name(f"data-{unique}", create_if_missing=True, version=request.param, client=client)
    modal.Volume.objects.delete(f"data-{unique}", client=client, allow_missing=True)


def read(volume: modal.Volume, path: str) -> bytes:
    return b"".join(volume.read_file(path))


def names(volume: modal.Volume, path: str = "/", *, recursive: bool = False) -> list[str]:
    return sorted(entry.path for entry in volume.listdir(path, recursive=recursive))


def put(volume: modal.Volume, files: dict[str, bytes], *, force: bool = False) -> None:
    with volume.batch_upload(force=force) as batch:
        for path, content in files.items():
            batch.put_file(io.BytesIO(content), path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\0" * 100,
        b"x" * (5 * 1024**2),  # over the limit from which version 1 uploads by blob
        b"a" * BLOCK + b"\0" * BLOCK + b"b\0\0",
        os.urandom(BLOCK + 1),
    ],
    ids=["empty", "small", "zeros", "by blob", "zeros between blocks", "two blocks"],
)
def test_what_is_put_is_read_again(data: modal.Volume, content: bytes) -> None:
    put(data, {"/dir/file.bin": content})
    assert read(data, "dir/file.bin") == content
    into = io.BytesIO()
    assert data.read_file_into_fileobj("dir/file.bin", into) == len(content)
    assert into.getvalue() == content


def test_a_directory_is_put_and_listed(data: modal.Volume, tmp_path: Path) -> None:
    # given a directory with another one in it
    (tmp_path / "tree/inner").mkdir(parents=True)
    (tmp_path / "tree/a.txt").write_text("a")
    (tmp_path / "tree/inner/b.txt").write_text("bb")
    # when it is put
    with data.batch_upload() as batch:
        batch.put_directory(tmp_path / "tree", "/kept")
    # then it is listed by level, in full, and by file
    assert names(data) == ["kept"]
    assert names(data, "kept") == ["kept/a.txt", "kept/inner"]
    assert names(data, "/", recursive=True) == ["kept", "kept/a.txt", "kept/inner", "kept/inner/b.txt"]
    (entry,) = data.listdir("/kept/inner/b.txt")
    assert (entry.path, entry.type, entry.size) == ("kept/inner/b.txt", FileEntryType.FILE, 2)
    assert [one.path for one in data.iterdir("/kept", recursive=False) if one.type == FileEntryType.DIRECTORY] == [
        "kept/inner"
    ]


def test_an_existing_file_is_overwritten_only_by_force(data: modal.Volume) -> None:
    put(data, {"f": b"old", "d/x": b"x"})
    with pytest.raises(FileExistsError, match="f"):
        put(data, {"new": b"new", "f": b"new"})
    assert names(data) == ["d", "f"]  # the batch that was refused left nothing
    put(data, {"f": b"new"}, force=True)
    assert read(data, "f") == b"new"
    with pytest.raises(FileExistsError):
        put(data, {"d": b"a file over a directory"}, force=True)


def test_remove(data: modal.Volume) -> None:
    put(data, {"d/x": b"x", "f": b"f"})
    data.remove_file("f")
    with pytest.raises(InvalidError, match="directory"):
        data.remove_file("d")
    data.remove_file("d", recursive=True)
    assert names(data) == []
    with pytest.raises(FileNotFoundError):
        data.remove_file("f")


def test_copy(data: modal.Volume) -> None:
    put(data, {"a": b"a", "b": b"b", "d/x": b"x"})
    data.copy_files(["a"], "a2")
    data.copy_files(["a", "b"], "d")
    assert names(data, recursive=True) == ["a", "a2", "b", "d", "d/a", "d/b", "d/x"]
    assert read(data, "a2") == b"a"
    with pytest.raises(InvalidError):
        data.copy_files(["a", "b"], "nowhere")
    with pytest.raises(NotFoundError):
        data.copy_files(["absent"], "x")


def test_version_2_copies_directories(client: modal.Client, unique: str) -> None:
    volume = modal.Volume.from_name(f"two-{unique}", create_if_missing=True, version=2, client=client)
    put(volume, {"d/x": b"x"})
    with pytest.raises(InvalidError):
        volume.copy_files(["d"], "e")
    volume.copy_files(["d"], "e", recursive=True)
    assert read(volume, "e/x") == b"x"
    modal.Volume.objects.delete(f"two-{unique}", client=client)


def test_what_is_not_there_is_not_found(data: modal.Volume, client: modal.Client, unique: str) -> None:
    put(data, {"d/x": b"x"})
    with pytest.raises(FileNotFoundError):
        read(data, "absent")
    with pytest.raises(NotFoundError):
        data.listdir("absent")
    with pytest.raises(InvalidError):
        read(data, "d")
    with pytest.raises(InvalidError):
        read(data, "../state.sqlite")
    with pytest.raises(NotFoundError, match=unique):
        modal.Volume.from_name(f"nowhere-{unique}", client=client).listdir("/")
    with pytest.raises(NotFoundError):
        modal.Volume.from_id("vo-nowhere", client=client).hydrate()


def test_commit_and_reload_are_for_containers(data: modal.Volume) -> None:
    with pytest.raises(RuntimeError, match="container"):
        data.commit()
    with pytest.raises(RuntimeError, match="container"):
        data.reload()


def test_a_version_that_is_not_the_volumes_own_is_refused(client: modal.Client, unique: str) -> None:
    name = f"old-{unique}"
    modal.Volume.objects.create(name, version=1, client=client)
    with pytest.raises(InvalidError, match="v1"):
        modal.Volume.from_name(name, version=2, client=client).hydrate()
    assert modal.Volume.from_name(name, client=client).hydrate().name == name
    modal.Volume.objects.delete(name, client=client)


def test_list_rename_and_delete(client: modal.Client, unique: str) -> None:
    one, two, three = (f"{name}-{unique}" for name in ("one", "two", "three"))
    for name in (one, two):
        modal.Volume.objects.create(name, client=client)
    put(modal.Volume.from_name(one, client=client), {"f": b"f"})
    with pytest.raises(AlreadyExistsError):
        modal.Volume.rename(one, two, client=client)
    modal.Volume.rename(one, three, client=client)
    assert read(modal.Volume.from_name(three, client=client), "f") == b"f"
    with pytest.raises(NotFoundError):
        modal.Volume.from_name(one, client=client).hydrate()
    modal.Volume.objects.delete(two, client=client)
    listed = [volume.name or "" for volume in modal.Volume.objects.list(client=client)]
    assert [name for name in listed if name.endswith(unique)] == [three]
    modal.Volume.objects.delete(three, client=client)


def test_an_ephemeral_volume(client: modal.Client) -> None:
    with modal.Volume.ephemeral(client=client) as volume:
        put(volume, {"f": b"f"})
        assert read(volume, "f") == b"f"


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_cli_creates_puts_lists_gets_copies_and_removes(
    bare_target: Target, tmp_path: Path, version: str, unique: str
) -> None:
    def volume(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return bare_target.cli("volume", *words, check=check)

    # given a volume made by the CLI, and a directory
    name, up, down = f"cli-{unique}", tmp_path / "up", tmp_path / "down"
    volume("create", name, "--version", version)
    (up / "inner").mkdir(parents=True)
    (up / "a.txt").write_text("a")
    (up / "inner/b.txt").write_text("b")
    # when it is put, and a file
    volume("put", name, str(up), "/dir")
    volume("put", name, str(up / "a.txt"), "/")
    # then it can be listed and got again
    assert volume("ls", name, "/").stdout.split() == ["a.txt", "dir"]
    assert f'"{name}"' in volume("list", "--json").stdout
    down.mkdir()
    volume("get", name, "/dir", str(down))
    assert (down / "dir/inner/b.txt").read_text() == "b"
    assert volume("get", name, "a.txt", "-").stdout.startswith("a")
    # a second put needs --force
    refused = volume("put", name, str(up / "a.txt"), "/", check=False)
    assert refused.returncode != 0
    assert "already exists" in refused.stderr + refused.stdout
    volume("put", name, str(up / "a.txt"), "/", "--force")
    # and it can be copied, removed, and deleted
    volume("cp", name, "a.txt", "c.txt")
    assert volume("rm", name, "/dir", check=False).returncode != 0
    volume("rm", name, "/dir", "-r")
    assert volume("ls", name).stdout.split() == ["a.txt", "c.txt"]
    assert volume("ls", name, "absent", check=False).returncode != 0
    volume("delete", name, "--yes")
    assert volume("ls", name, check=False).returncode != 0
