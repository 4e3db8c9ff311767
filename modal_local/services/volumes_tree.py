"""What a volume holds, as plain data: paths and entries, and the pure functions that list, change and merge them.

A tree maps a path without a leading slash to its entry; directories are entries of their own, the root is none. Every
function leaves its arguments alone and returns a new tree, so that a commit happens at once or not at all.
"""

import json
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from modal_local.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError

# "For block based storage like volumefs2: the size of a block" (`blob_utils.py`).
BLOCK_BYTES: Final = 8 * 1024**2
DIRECTORY_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symbolic link.

    Attributes:
        kind: which of the three.
        mode: permission bits.
        mtime_ns: time of the last change, in unix nanoseconds.
        size_bytes: of a file.
        blocks: SHA-256 in hex of each block of a file, without the zero bytes at the block's end.
        target: of a link.
    """

    kind: Literal["file", "directory", "link"]
    mode: int
    mtime_ns: int
    size_bytes: int = 0
    blocks: tuple[str, ...] = ()
    target: str = ""


Tree = Mapping[str, Entry]


def directory(mtime_ns: int, mode: int = DIRECTORY_MODE) -> Entry:
    """A directory's entry."""
    return Entry("directory", mode, mtime_ns)


def normalize(path: str) -> str:
    """A path as trees hold it: no slash at either end; the root is empty.

    Raises:
        InvalidArgumentError: the path climbs out of the volume, or holds a NUL.
    """
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts or "\0" in path:
        raise InvalidArgumentError(f"Volume path {path!r}: expected a path inside the volume, without '..' and NUL.")
    return "/".join(parts)


def parents(path: str) -> list[str]:
    """The directories above a path, the outermost first, without the root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def below(tree: Tree, path: str) -> list[str]:
    """All paths inside a directory, at any depth."""
    if not path:
        return list(tree)
    return [one for one in tree if one.startswith(f"{path}/")]


def listing(tree: Tree, path: str, *, recursive: bool) -> list[tuple[str, Entry]]:
    """What `ls` shows: a directory's entries, or the file itself.

    Raises:
        NotFoundError: there is nothing at the path.
    """
    path = normalize(path)
    entry = tree.get(path)
    if path and entry is None:
        raise NotFoundError(f"No such file or directory in the volume: {path!r}.")
    if entry is not None and entry.kind != "directory":
        return [(path, entry)]
    found = below(tree, path)
    if not recursive:
        depth = path.count("/") + 1 if path else 0
        found = [one for one in found if one.count("/") == depth]
    return [(one, tree[one]) for one in sorted(found)]


def with_files(tree: Tree, files: Mapping[str, Entry], *, overwrite: bool, now_ns: int) -> Tree:
    """The tree with files put in, and the directories above them.

    Raises:
        AlreadyExistsError: a file is there and may not be overwritten, or a directory is there.
        InvalidArgumentError: what should be a directory is a file, or a path is the root.
    """
    result = dict(tree)
    for path, entry in files.items():
        if not path:
            raise InvalidArgumentError("Volume: expected the path of a file, got the root.")
        existing = result.get(path)
        if existing is not None and existing.kind == "directory":
            raise AlreadyExistsError(f"{path}: already exists and is a directory, which a file cannot overwrite.")
        if existing is not None and not overwrite:
            raise AlreadyExistsError(f"{path}: already exists. Allow overwriting (force) or choose another path.")
        _make_directories(result, path, now_ns)
        result[path] = entry
    return result


def without(tree: Tree, path: str, *, recursive: bool) -> Tree:
    """The tree with a file or directory removed.

    Raises:
        NotFoundError: there is nothing at the path.
        InvalidArgumentError: a directory, and not recursive.
    """
    path = normalize(path)
    entry = tree.get(path)
    if path and entry is None:
        raise NotFoundError(f"No such file or directory in the volume: {path!r}.")
    inside = below(tree, path) if entry is None or entry.kind == "directory" else []
    if (entry is None or entry.kind == "directory") and not recursive:
        raise InvalidArgumentError(f"{path or '/'!r} is a directory: remove it recursively.")
    gone = {path, *inside}
    return {one: kept for one, kept in tree.items() if one not in gone}


def copied(tree: Tree, sources: Iterable[str], destination: str, *, recursive: bool, now_ns: int) -> Tree:
    """The tree after `cp SOURCES DESTINATION`.

    Raises:
        NotFoundError: a source is not there.
        InvalidArgumentError: a directory without `recursive`, or many sources and a destination that is no directory.
    """
    chosen = [normalize(source) for source in sources]
    target = normalize(destination)
    existing = tree.get(target)
    into_directory = not target or (existing is not None and existing.kind == "directory")
    if len(chosen) > 1 and not into_directory:
        raise InvalidArgumentError(f"Volume copy: several sources need a directory, and {destination!r} is none.")
    if destination.endswith("/") and not into_directory:
        raise InvalidArgumentError(f"Volume copy: {destination!r} is not a directory.")
    result = dict(tree)
    for source in chosen:
        place = posixpath.join(target, posixpath.basename(source)) if into_directory else target
        _copy_one(result, tree, source, place, recursive=recursive, now_ns=now_ns)
    return result


def _copy_one(result: dict[str, Entry], tree: Tree, source: str, place: str, *, recursive: bool, now_ns: int) -> None:
    entry = tree.get(source)
    if entry is None:
        raise NotFoundError(f"No such file or directory in the volume: {source!r}.")
    if entry.kind != "directory":
        if (existing := result.get(place)) is not None and existing.kind == "directory":
            raise InvalidArgumentError(f"Volume copy: {place!r} is a directory, and {source!r} is none.")
        _make_directories(result, place, now_ns)
        result[place] = replace(entry, mtime_ns=now_ns)
        return
    if not recursive:
        raise InvalidArgumentError(f"Volume copy: {source!r} is a directory: copy it recursively.")
    if place == source or place.startswith(f"{source}/"):
        raise InvalidArgumentError(f"Volume copy: cannot copy {source!r} into itself.")
    _make_directories(result, f"{place}/", now_ns)
    for inner in below(tree, source):
        result[place + inner.removeprefix(source)] = replace(tree[inner], mtime_ns=now_ns)


def _make_directories(result: dict[str, Entry], path: str, now_ns: int) -> None:
    for parent in parents(path):
        existing = result.setdefault(parent, directory(now_ns))
        if existing.kind != "directory":
            raise InvalidArgumentError(f"{parent!r} is a file, so {path!r} cannot be inside it.")


def merged(committed: Tree, changed: Tree, deleted: Iterable[str], *, now_ns: int) -> Tree:
    """What is committed after a container's changes are laid over it: for each path, the last writer wins.

    A directory that the container removed stays if another one put something into it meanwhile.
    """
    result = dict(committed)
    for path in sorted(deleted, key=len, reverse=True):
        entry = result.get(path)
        if entry is not None and not (entry.kind == "directory" and below(result, path)):
            del result[path]
    for path in sorted(changed, key=len):
        entry = changed[path]
        for parent in parents(path):
            if result.get(parent, directory(0)).kind != "directory":
                del result[parent]
            result.setdefault(parent, directory(now_ns))
        if entry.kind != "directory":
            for inner in below(result, path):
                del result[inner]
        result[path] = entry
    return result


def dump(tree: Tree) -> bytes:
    """As stored."""
    rows = [
        [path, one.kind, one.mode, one.mtime_ns, one.size_bytes, list(one.blocks), one.target]
        for path, one in sorted(tree.items())
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def load(data: bytes) -> Tree:
    """From `dump`."""
    return {
        path: Entry(kind, mode, mtime_ns, size_bytes, tuple(blocks), target)
        for path, kind, mode, mtime_ns, size_bytes, blocks, target in json.loads(data)
    }
