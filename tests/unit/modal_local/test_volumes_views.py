"""Views: what a container's copy shows, and what is found changed in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modal_local.errors import FailedPreconditionError
from modal_local.services.volumes_blocks import BlockStore
from modal_local.services.volumes_mounts import (
    BindMount,
    MountPaths,
    command_prefix,
    link_target,
    namespace_command,
)
from modal_local.services.volumes_tree import BLOCK_BYTES, Entry, Tree, directory
from modal_local.services.volumes_views import Changes, View, accept, find_changes, lay_out, open_files


@pytest.fixture
def blocks(tmp_path: Path) -> BlockStore:
    return BlockStore(tmp_path / "blocks")


@pytest.fixture
def view(tmp_path: Path) -> View:
    return View(tmp_path / "view", read_only=False)


def file(blocks: BlockStore, content: bytes) -> Entry:
    parts = [content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES)]
    return Entry("file", 0o640, 1_000_000_000, len(content), tuple(blocks.add(part) for part in parts))


def committed(view: View, blocks: BlockStore) -> Changes:
    found = find_changes(view, blocks)
    accept(view, found)
    return found


def test_a_view_shows_the_tree_and_then_nothing_is_changed(view: View, blocks: BlockStore) -> None:
    # given a tree with every kind of entry, and a file with zeros at the ends of its blocks
    large = b"x" + b"\0" * (BLOCK_BYTES - 1) + b"y\0\0\0"
    tree: Tree = {
        "d": directory(1, 0o700),
        "d/small": file(blocks, b"small"),
        "empty": file(blocks, b""),
        "large": file(blocks, large),
        "link": Entry("link", 0o777, 1, target="d/small"),
        "zeros": file(blocks, b"\0" * (BLOCK_BYTES + 5)),
    }
    # when it is laid out
    lay_out(view, tree, blocks)
    # then every byte, mode, time and link is there
    assert (view.root / "large").read_bytes() == large
    assert (view.root / "zeros").read_bytes() == b"\0" * (BLOCK_BYTES + 5)
    assert (view.root / "empty").read_bytes() == b""
    assert (view.root / "link").read_bytes() == b"small"
    status = (view.root / "d/small").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_000_000_000)
    assert (view.root / "d").stat().st_mode & 0o777 == 0o700
    # and nothing is found changed
    found = find_changes(view, blocks)
    assert (found.changed, found.deleted) == ({}, frozenset())


def test_every_kind_of_change_is_found(view: View, blocks: BlockStore) -> None:
    lay_out(view, {name: file(blocks, b"old") for name in ("kept", "changed", "removed", "moved", "mode")}, blocks)
    # when a container works in it, and even hides a change of the same length behind the old time
    (view.root / "changed").write_bytes(b"new")
    os.utime(view.root / "changed", ns=(1_000_000_000, 1_000_000_000))
    (view.root / "removed").unlink()
    (view.root / "moved").rename(view.root / "there")
    (view.root / "mode").chmod(0o600)
    (view.root / "made").mkdir()
    (view.root / "made/link").symlink_to("../kept")
    os.mkfifo(view.root / "pipe")
    # then all of it is found, and what has no content to keep is not
    found = committed(view, blocks)
    assert set(found.changed) == {"changed", "there", "mode", "made", "made/link"}
    assert found.deleted == {"removed", "moved"}
    assert blocks.path_of(found.changed["changed"].blocks[0]).read_bytes() == b"new"
    assert find_changes(view, blocks).changed == {}


def test_only_what_has_changed_is_read_again(view: View, blocks: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a view in which one of two files was changed and committed
    lay_out(view, {"kept": file(blocks, b"kept"), "changed": file(blocks, b"old")}, blocks)
    (view.root / "changed").write_bytes(b"new")
    committed(view, blocks)
    # when the other one changes too
    (view.root / "kept").write_bytes(b"too")
    read: list[str] = []
    original = blocks.add_file

    def add_file(path: Path) -> tuple[int, tuple[str, ...]]:
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(blocks, "add_file", add_file)
    found = find_changes(view, blocks)
    # then that one alone is read
    assert (read, set(found.changed)) == (["kept"], {"kept"})


def test_laying_out_again_touches_what_differs_and_no_more(view: View, blocks: BlockStore) -> None:
    lay_out(view, {"same": file(blocks, b"same"), "other": file(blocks, b"1"), "gone": file(blocks, b"x")}, blocks)
    root, same = view.root.stat().st_ino, (view.root / "same").stat().st_ino
    # when another tree is laid out, in which a file became a directory
    inner = {"gone": directory(1), "gone/in": file(blocks, b"in")}
    lay_out(view, {"same": file(blocks, b"same"), "other": file(blocks, b"2"), **inner}, blocks)
    # then the directory itself and the unchanged file are those of before
    assert (view.root.stat().st_ino, (view.root / "same").stat().st_ino) == (root, same)
    assert ((view.root / "other").read_bytes(), (view.root / "gone/in").read_bytes()) == (b"2", b"in")
    # and back
    lay_out(view, {"gone": file(blocks, b"file")}, blocks)
    assert [one.name for one in view.root.iterdir()] == ["gone"]
    assert find_changes(view, blocks).changed == {}


HOLDER = "import os, sys; kept = open(sys.argv[1]); os.chdir(sys.argv[2]); print('ready', flush=True); sys.stdin.read()"


def test_open_files_and_working_directories_are_found(view: View, blocks: BlockStore, tmp_path: Path) -> None:
    lay_out(view, {"d": directory(1), "held": file(blocks, b"x"), "free": file(blocks, b"y")}, blocks)
    assert open_files(view, "ta-1") == []
    # given a process of the container that has a file open and stands in a directory
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(view.root / "held"), str(view.root / "d")],
        env={"MODAL_TASK_ID": "ta-1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        # then both are found for this container, and nothing for another one
        found = open_files(view, "ta-1")
        assert sorted(one.split(" ")[0] for one in found) == ["d", "held"]
        assert open_files(view, "ta-10") == []
        assert open_files(view, "ta-") == []
        process.communicate()
    assert open_files(view, "ta-1") == []


@pytest.mark.skipif(namespace_command() is None, reason="this machine does not allow unshare --mount")
def test_the_prefix_mounts_for_the_container_alone(tmp_path: Path) -> None:
    # given two views and mount paths with blanks in them
    (tmp_path / "a view").mkdir()
    (tmp_path / "a view" / "file").write_text("content")
    (tmp_path / "second").mkdir()
    target, second = tmp_path / "mount here", tmp_path / "deep" / "mount"
    paths = MountPaths()
    paths.use("ta-1", [target, second])
    prefix = command_prefix(
        [
            BindMount(tmp_path / "a view", target, read_only=True),
            BindMount(tmp_path / "second", second, read_only=False),
        ]
    )
    # when a container runs in them
    script = 'cat "$1/file"; echo new > "$1/x" || echo refused; echo kept > "$2/y"; echo $$; exit 7'
    process = subprocess.Popen(
        [*prefix, "sh", "-c", script, "sh", str(target), str(second)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    output, _ = process.communicate(timeout=20)
    # then it sees and writes what it may, under the process id and with the exit status that the launcher sees
    assert output.split() == ["contentrefused", str(process.pid)]
    assert process.returncode == 7
    assert (tmp_path / "second" / "y").read_text() == "kept\n"
    # and nobody else sees the mounts, and what was made for them goes
    assert list(target.iterdir()) == []
    paths.release("ta-1")
    assert not target.exists()
    assert not (tmp_path / "deep").exists()


def test_a_mount_path_that_is_a_file_or_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FailedPreconditionError, match="expected a directory"):
        MountPaths().use("ta-1", [tmp_path / "file"])
    with pytest.raises(FailedPreconditionError, match="cannot be made"):
        MountPaths().use("ta-1", [Path("/proc/nowhere")])


def test_without_mounts_a_link_leads_to_the_shared_directory(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    link_target(tmp_path / "deep" / "mount", shared)
    link_target(tmp_path / "deep" / "mount", shared)
    assert (tmp_path / "deep" / "mount").resolve() == shared.resolve()
    with pytest.raises(FailedPreconditionError, match="something is there"):
        link_target(tmp_path / "deep" / "mount", tmp_path / "other")
    with pytest.raises(FailedPreconditionError, match="cannot be made"):
        link_target(Path("/proc/nowhere/x"), shared)


@pytest.mark.skipif(namespace_command() is None, reason="this machine does not allow unshare --mount")
def test_the_end_of_one_container_does_not_unmount_another(tmp_path: Path) -> None:
    # given a container of another server that has a view mounted on a path that we made
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "file").write_text("content")
    target = tmp_path / "deep path" / "mount"
    paths = MountPaths()
    paths.use("ta-1", [target])
    paths.use("ta-2", [target])
    prefix = command_prefix([BindMount(tmp_path / "view", target, read_only=False)])
    script = 'cat "$1/file"; read line; cat "$1/file"'
    with subprocess.Popen(
        [*prefix, "sh", "-c", script, "sh", str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(7) == "content"
        # when one of our own two ends, and then the other one, which leaves the stranger alone
        for task_id in ("ta-1", "ta-2"):
            paths.release(task_id)
            assert target.exists()
        # then the stranger still has its mount
        output, _ = process.communicate("go on\n", timeout=20)
        assert output == "content"
    # and when it has ended too, the next one that ends removes what was made
    paths.release("ta-3")
    assert not (tmp_path / "deep path").exists()
