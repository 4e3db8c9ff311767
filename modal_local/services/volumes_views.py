"""A container's own copy of a volume, and what the container has changed in it.

A view is a directory that is laid out from a committed tree and then belongs to the container. What changed in it is
found by comparing each file's size, times and inode with what they were when the file was laid out. A reload changes
the directory's contents, never the directory itself, since that is what is mounted in the container.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from modal_local.services.volumes_tree import DIRECTORY_MODE, Entry, Tree, directory

if TYPE_CHECKING:
    from modal_local.services.volumes_blocks import BlockStore

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a file is known to be unchanged. Any write moves ctime, which no program can set."""

    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    mode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """From `lstat`."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, stat.S_IMODE(status.st_mode))


@dataclass(frozen=True, slots=True)
class Changes:
    """What differs from what was laid out.

    Attributes:
        changed: new and changed entries.
        deleted: paths that are gone.
        stamps: of all files there are now.
    """

    changed: Tree
    deleted: frozenset[str]
    stamps: dict[str, Stamp]


@dataclass(slots=True)
class View:
    """One container's copy of one volume.

    Attributes:
        root: the directory.
        read_only: nothing is ever committed from it.
        tree: what was laid out, or committed from here, last.
        stamps: of the files of `tree`.
    """

    root: Path
    read_only: bool
    tree: Tree = field(default_factory=dict)
    stamps: dict[str, Stamp] = field(default_factory=dict)


def lay_out(view: View, wanted: Tree, blocks: "BlockStore") -> None:
    """Makes the view show `wanted`, where it differs from what it shows. Changes that were not found first are lost."""
    view.root.mkdir(parents=True, exist_ok=True)
    for path in sorted(view.tree, key=len, reverse=True):
        old, new = view.tree[path], wanted.get(path)
        if new is None or new.kind != old.kind:
            _remove(view.root / path)
            view.stamps.pop(path, None)
    for path in sorted(wanted, key=len):
        if not _same(view.tree.get(path), wanted[path]):
            _write(view, path, wanted[path], blocks)
    view.tree = dict(wanted)


def find_changes(view: View, blocks: "BlockStore") -> Changes:
    """What the container has changed since, with the content of changed files kept as blocks."""
    changed: dict[str, Entry] = {}
    stamps: dict[str, Stamp] = {}
    seen: set[str] = set()
    for path, item in _walk(view.root, ""):
        try:
            entry = _entry_of(view, path, item, blocks, stamps)
        except FileNotFoundError:
            continue  # removed while we looked
        if entry is not None:
            seen.add(path)
            if not _same(view.tree.get(path), entry):
                changed[path] = entry
    return Changes(changed, frozenset(view.tree) - seen, stamps)


def accept(view: View, changes: Changes) -> None:
    """Takes found changes for committed."""
    kept = {path: entry for path, entry in view.tree.items() if path not in changes.deleted}
    view.tree = {**kept, **changes.changed}
    view.stamps = changes.stamps


def open_files(view: View, task_id: str) -> list[str]:
    """What a container's processes hold open in its view: descriptors and working directories, as sentences."""
    inodes = {(status.st_dev, status.st_ino): "." for status in [view.root.stat()]}
    for path, item in _walk(view.root, ""):
        status = item.stat(follow_symlinks=False)
        inodes[(status.st_dev, status.st_ino)] = path
    found = []
    for process in _processes_of(task_id):
        for link in _links_of(process):
            try:
                status = link.stat()
            except OSError:
                continue  # closed meanwhile
            path = inodes.get((status.st_dev, status.st_ino), "")
            if path:
                what = "is the working directory of" if link.name == "cwd" else "is open in"
                found.append(f"{path} {what} process {process.name}")
    return found


def _same(old: Entry | None, new: Entry) -> bool:
    if old is None or old.kind != new.kind:
        return False
    if new.kind == "directory":
        return old.mode == new.mode
    return old == new


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write(view: View, path: str, entry: Entry, blocks: "BlockStore") -> None:
    place = view.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    match entry.kind:
        case "directory":
            if not place.is_dir():
                _remove(place)
            place.mkdir(exist_ok=True)
            place.chmod(entry.mode)
        case "link":
            _remove(place)
            place.symlink_to(entry.target)
        case "file":
            partial = place.with_name(f".{secrets.token_hex(8)}.partial")
            blocks.write_file(entry, partial)
            partial.chmod(entry.mode)
            os.utime(partial, ns=(entry.mtime_ns, entry.mtime_ns))
            if place.is_dir() and not place.is_symlink():
                _remove(place)
            partial.replace(place)
            view.stamps[path] = Stamp.of(place.lstat())


def _walk(root: Path, prefix: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    try:
        with os.scandir(root / prefix) as items:
            for item in sorted(items, key=lambda one: one.name):
                path = f"{prefix}/{item.name}" if prefix else item.name
                yield path, item
                if item.is_dir(follow_symlinks=False):
                    yield from _walk(root, path)
    except FileNotFoundError:
        return


def _entry_of(
    view: View, path: str, item: "os.DirEntry[str]", blocks: "BlockStore", stamps: dict[str, Stamp]
) -> Entry | None:
    status = item.stat(follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        target = str(Path(item.path).readlink())
        old = view.tree.get(path)
        entry = Entry("link", mode, status.st_mtime_ns, target=target)
        return old if old is not None and old.kind == "link" and old.target == target else entry
    if stat.S_ISDIR(status.st_mode):
        return directory(status.st_mtime_ns, mode or DIRECTORY_MODE)
    if not stat.S_ISREG(status.st_mode):
        return None  # sockets and the like have no content to keep
    stamp = stamps[path] = Stamp.of(status)
    old = view.tree.get(path)
    if old is not None and old.kind == "file" and view.stamps.get(path) == stamp:
        return old
    size_bytes, digests = blocks.add_file(Path(item.path))
    return replace(Entry("file", mode, status.st_mtime_ns), size_bytes=size_bytes, blocks=digests)


def _processes_of(task_id: str) -> Iterator[Path]:
    """The container's processes: all that carry the task id, which children inherit, in their environment."""
    mark = f"MODAL_TASK_ID={task_id}\0".encode()
    for process in _PROC.iterdir():
        if process.name.isdigit():
            try:
                if mark in (process / "environ").read_bytes() + b"\0":
                    yield process
            except OSError:
                continue  # ended meanwhile, or somebody else's


def _links_of(process: Path) -> Iterator[Path]:
    yield process / "cwd"
    try:
        yield from (process / "fd").iterdir()
    except OSError:
        return
