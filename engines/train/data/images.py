"""Images per class, out of a folder, a tar or a zip; archives are read where they lie, never unpacked."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.train.errors import DatasetProblem

_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_TEN: Final = 10


@dataclass(frozen=True)
class Entry:
    """One image of a source: its name in there, its class, and a mark that changes when the file does."""

    name: str
    label: str
    mark: str


class Source(Protocol):
    """Where images come from."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All images, sorted by name."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of one."""
        ...


@contextmanager
def open_source(dataset: str, path: Path) -> Iterator[Source]:
    """Opens what lies at `path`: a folder, a tar (plain or compressed) or a zip.

    Args:
        dataset: As the config names it, for errors.
        path: Where it is.

    Raises:
        DatasetProblem: It is missing, no archive, or has fewer than two classes of images.
    """
    if not path.exists():
        raise DatasetProblem("missing", dataset)
    try:
        if path.is_dir():
            yield _checked(dataset, _Folder(path))
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as zipped:
                yield _checked(dataset, _Zip(zipped))
        else:
            with tarfile.open(path) as tar:
                yield _checked(dataset, _Tar(tar))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DatasetProblem("bad_archive", dataset, cause=str(error)) from error


def is_for_evaluation(position: int) -> bool:
    """Whether the image at `position` of its class (by name) is held out: the first one and every tenth."""
    return position % _TEN == 0


def decode_all(dataset: str, source: Source, side_px: int, threads: int) -> Iterator[tuple[Entry, NDArray[np.uint8]]]:
    """Every image, cut to its central square and scaled to `side_px`, in order of name.

    Raises:
        DatasetProblem: `bad_image`, with its name: truncated, of no known format, or too large to be one.
    """
    with ThreadPoolExecutor(threads) as pool:
        # In portions, so that a slow consumer does not make the whole set pile up in memory.
        portion = 16 * threads
        for start in range(0, len(source.entries), portion):
            entries = source.entries[start : start + portion]
            contents = [_contents(dataset, source, entry) for entry in entries]  # one archive, one reader
            yield from zip(
                entries,
                pool.map(lambda both: _decode(dataset, both[0], both[1], side_px), zip(entries, contents, strict=True)),
                strict=True,
            )


def _contents(dataset: str, source: Source, entry: Entry) -> bytes:
    try:
        return source.read(entry.name)
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DatasetProblem("bad_image", dataset, entry.name, str(error)) from error


def _decode(dataset: str, entry: Entry, content: bytes, side_px: int) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            picture = image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # on foreign bytes a decoder raises anything: OSError, SyntaxError, struct.error
        raise DatasetProblem("bad_image", dataset, entry.name, str(error)) from error
    edge = min(picture.size)
    left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
    square = picture.resize((side_px, side_px), Image.Resampling.BOX, (left, top, left + edge, top + edge))
    return np.asarray(square, dtype=np.uint8)


def _checked(dataset: str, source: Source) -> Source:
    sizes: dict[str, int] = {}
    for entry in source.entries:
        sizes[entry.label] = sizes.get(entry.label, 0) + 1
    if not sizes:
        raise DatasetProblem("empty", dataset)
    if len(sizes) == 1:
        raise DatasetProblem("one_class", dataset, next(iter(sizes)))
    for label, count in sizes.items():
        if count == 1:  # one image cannot be both learnt from and held out
            raise DatasetProblem("too_small", dataset, label, "1 image, 2 are the least")
    return source


def _label_of(name: str) -> str | None:
    """The class of a file: the folder that it lies in. None for what is no image of a class."""
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__")) for part in path.parts)
    if hidden or path.suffix.lower() not in _SUFFIXES or path.parent.name in ("", ".", ".."):
        return None
    return path.parent.name


def _entries(marks: dict[str, str]) -> tuple[Entry, ...]:
    return tuple(Entry(name, label, marks[name]) for name in sorted(marks) if (label := _label_of(name)))


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        stats = {name: path.stat() for name, path in files.items()}
        self.entries = _entries({name: f"{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats.items()})

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        infos = [info for info in archive.infolist() if not info.is_dir()]
        self.entries = _entries({info.filename: f"{info.file_size}:{info.CRC}" for info in infos})

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {member.name: member for member in archive if member.isfile()}
        self.entries = _entries({name: f"{one.size}:{one.mtime}:{one.chksum}" for name, one in self._members.items()})

    def read(self, name: str) -> bytes:
        file = self._archive.extractfile(self._members[name])
        content = file.read() if file else b""
        if len(content) != self._members[name].size:
            raise EOFError(f"{len(content)} of {self._members[name].size} bytes are there")
        return content
