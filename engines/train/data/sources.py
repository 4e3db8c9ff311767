"""What lies in a data set, file by file: a folder, a tar or a zip, the archives read where they lie, never unpacked.

An archive is listed once and read once, in its own order: a compressed tar has no way back but from its beginning.
Only regular files are read. Everything else is told with the reason why it is not.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol

from engines.train.data.files import kind_of, open_regular, read_regular

#: No image of a data set is larger, bytes: what is, was made to fill the host's memory.
LARGEST_ENTRY_BYTES: Final = 256 * 1024**2
#: Nor has a set more files and folders, or an archive more contents, packed or not.
MOST_FILES: Final = 5_000_000
LARGEST_CONTENTS_BYTES: Final = 4 * 1024**4
#: A header that names a member may be of variable length, and is held in memory.
_LARGEST_HEADER_BYTES: Final = 1024**2
_READ_BYTES: Final = 1024**2
_LEADS_OUT: Final = "links that lead out of where data sets may lie"
_NOT_THERE: Final = "links to what is not there"
_LOOP: Final = "links that lead back to a folder around them"
_LINK: Final = "links, which are not followed in an archive"
_REPLACED: Final = "files of which a later one has the same name"


class TooLarge(ValueError):
    """More than a data set may have."""


@dataclass(frozen=True)
class Found:
    """Something in a source.

    Attributes:
        name: Within the source, as the source spells it.
        mark: Changes when the contents do.
        size_bytes: Of the contents.
        not_read: Why its contents are not read; None: they can be.
        is_folder: Whether it is (or stands for) a folder rather than a file.
    """

    name: str
    mark: str = ""
    size_bytes: int = 0
    not_read: str | None = None
    is_folder: bool = False


class Source(Protocol):
    """Where images come from."""

    @property
    def found(self) -> Sequence[Found]:
        """All there is, in the order in which it is read fastest."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            Exception: Of any type: an encrypted entry, an unknown method, a damaged stream each have their own.
        """
        ...


def open_any(path: Path, roots: Sequence[Path] | None, opened: ExitStack) -> Source:
    """Opens what lies at `path`.

    Args:
        path: A folder, a tar (plain or compressed) or a zip.
        roots: Folders that links within a folder may lead to, beside itself; None: anywhere.
        opened: Closes it.

    Raises:
        NotRegular: It is a device, a FIFO, a socket.
        TooLarge: It has more files or contents than a set may have.
        OSError: The file system refuses.
        Exception: Of any type, on damaged archives.
    """
    if stat.S_ISDIR(path.stat().st_mode):
        return _Folder(path, roots)
    file = opened.enter_context(open_regular(path))
    if zipfile.is_zipfile(file):
        file.seek(0)
        return _Zip(opened.enter_context(zipfile.ZipFile(file)))
    file.seek(0)
    # tarfile closes only what it has opened itself; what it wraps around the file holds nothing of the system's.
    return _Tar(opened.enter_context(tarfile.open(fileobj=file, tarinfo=_BoundedHeader)))


class _Folder:
    def __init__(self, root: Path, roots: Sequence[Path] | None) -> None:
        self._root = root
        self._roots = None if roots is None else [one.resolve() for one in (root, *roots)]
        self.found = _bounded(self._walk(root, (self._identity(root),)))

    def read(self, name: str) -> bytes:
        return read_regular(self._root / name, LARGEST_ENTRY_BYTES)

    def _walk(self, folder: Path, around: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda one: one.name)
        for entry in entries:
            path = folder / entry.name
            if entry.is_symlink():
                refused = self._refused_link(path)
                if refused:
                    yield Found(self._name(path), not_read=refused, is_folder=not path.suffix)
                    continue
            yield from self._look_at(path, around)

    def _look_at(self, path: Path, around: tuple[tuple[int, int], ...]) -> Iterator[Found]:
        name, facts = self._name(path), path.stat()
        if stat.S_ISREG(facts.st_mode):
            yield Found(name, f"{facts.st_size}:{facts.st_mtime_ns}", facts.st_size)
        elif not stat.S_ISDIR(facts.st_mode):
            yield Found(name, not_read=f"no regular files ({kind_of(facts.st_mode)})")
        elif self._identity(path) in around:
            yield Found(name, not_read=_LOOP, is_folder=True)
        else:
            yield Found(name, is_folder=True)
            try:
                yield from self._walk(path, (*around, self._identity(path)))
            except PermissionError as error:
                if error.filename != str(path):
                    raise
                yield Found(name, not_read="folders that may not be listed", is_folder=True)

    def _refused_link(self, path: Path) -> str | None:
        """Why a link is not followed. Nothing outside of the roots is looked at, not even whether it is there."""
        try:
            target = path.resolve()
        except (OSError, RuntimeError):  # links in a ring
            return _NOT_THERE
        if self._roots is not None and not any(target.is_relative_to(one) for one in self._roots):
            return _LEADS_OUT
        try:
            return None if target.exists() else _NOT_THERE
        except PermissionError:
            return _NOT_THERE

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    @staticmethod
    def _identity(folder: Path) -> tuple[int, int]:
        facts = folder.stat()
        return facts.st_dev, facts.st_ino


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        infos = sorted(archive.infolist(), key=lambda one: one.header_offset)
        self._infos = {_name_in_zip(one): one for one in archive.infolist()}  # of two with one name the later counts
        self.found = _bounded(map(self._one, infos))

    def read(self, name: str) -> bytes:
        return self._archive.read(self._infos[name])

    def _one(self, info: zipfile.ZipInfo) -> Found:
        name, kind = _name_in_zip(info), stat.S_IFMT(info.external_attr >> 16)
        if name.endswith("/"):
            return Found(name, is_folder=True)
        if stat.S_ISLNK(kind):
            return Found(name, not_read=_LINK, is_folder=not PurePosixPath(name).suffix)
        if kind and not stat.S_ISREG(kind):
            return Found(name, not_read=f"no regular files ({kind_of(kind)})")
        if self._infos[name] is not info:
            return Found(name, not_read=_REPLACED)
        return Found(name, f"{info.file_size}:{info.CRC}", info.file_size)


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Some tools of Windows write its own separator into archives, against the format's specification."""
    return info.filename.replace("\\", "/") if info.create_system == 0 else info.filename


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        told = _bounded(map(self._one, archive))
        _check_end(archive)
        last = {one.name: at for at, one in enumerate(told)}
        self.found = [
            one if last[one.name] == at else Found(one.name, not_read=_REPLACED) for at, one in enumerate(told)
        ]

    def read(self, name: str) -> bytes:
        file = self._archive.extractfile(self._members[name])
        content = file.read() if file else b""
        if len(content) != self._members[name].size:
            raise EOFError(f"{len(content)} of {self._members[name].size} bytes are there")
        return content

    def _one(self, member: tarfile.TarInfo) -> Found:
        if member.isdir():
            return Found(member.name, is_folder=True)
        if member.issym() or member.islnk():
            return Found(member.name, not_read=_LINK, is_folder=not PurePosixPath(member.name).suffix)
        if not member.isfile():
            return Found(member.name, not_read="no regular files (a device or a FIFO)")
        self._members[member.name] = member
        return Found(member.name, f"{member.size}:{member.mtime}:{member.chksum}", member.size)


class _BoundedHeader(tarfile.TarInfo):
    """A member whose header is not read into memory without bound: a long name may claim to be gigabytes."""

    _HEADERS: Final = (
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
    )

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in self._HEADERS and self.size > _LARGEST_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes, {_LARGEST_HEADER_BYTES} are the most")
        # tarfile's own hook for subclasses, which typeshed does not list.
        return super()._proc_member(archive)  # type: ignore[misc,no-any-return]


def _bounded(found: Iterator[Found]) -> list[Found]:
    """All of it, and no more than a set may have: checked while it is listed, before the next is looked for."""
    kept: list[Found] = []
    size_bytes = 0
    for one in found:
        kept.append(one)
        size_bytes += one.size_bytes
        if len(kept) > MOST_FILES:
            raise TooLarge(f"more than {MOST_FILES} files")
        if size_bytes > LARGEST_CONTENTS_BYTES:
            raise TooLarge(f"more than {LARGEST_CONTENTS_BYTES} bytes of contents")
    return kept


def _check_end(archive: tarfile.TarFile) -> None:
    """That the archive ends where its members do: `tarfile` takes a header that it cannot read for the end.

    Reads it to its last byte, so that the checksum of a compressed one is proven.

    Raises:
        tarfile.ReadError: The block of zeros that ends an archive (POSIX.1-1988) is missing.
        TooLarge: What follows that block does not end.
    """
    stream: IO[bytes] | None = archive.fileobj  # type: ignore[assignment]  # typeshed has a narrower one
    if stream is None:
        raise tarfile.ReadError("the archive is closed")
    stream.seek(archive.offset)
    end = stream.read(tarfile.BLOCKSIZE)
    if end.count(0) != tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it breaks off, or is damaged, at byte {archive.offset} of its contents")
    while stream.read(_READ_BYTES):
        if stream.tell() > LARGEST_CONTENTS_BYTES:
            raise TooLarge(f"more than {LARGEST_CONTENTS_BYTES} bytes of contents")
