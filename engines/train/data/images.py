"""Images per class, out of a folder, a tar or a zip; archives are read where they lie, never unpacked."""

from __future__ import annotations

import errno
import io
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engines.train.errors import DatasetAway, DatasetProblem

T = TypeVar("T")

#: No image of a data set is larger, bytes: what is, was made to fill the host's memory.
LARGEST_ENTRY_BYTES: Final = 256 * 1024**2
#: Nor has it more pixels; Pillow's own bound of what may be a decompression bomb.
LARGEST_IMAGE_PIXELS: Final = 89_478_485
#: Encoded images held at a time by each thread, and bytes held together.
_ENTRIES_PER_THREAD: Final = 16
_PORTION_BYTES: Final = 256 * 1024**2
#: A mounted bucket fails from time to time: pauses before a read is retried, seconds.
_AGAIN_AFTER_S: Final = (0.5, 2.0, 5.0)
#: What a file system says for good; its other refusals may pass.
_FINAL_ERRORS: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG}
)
_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
_TEN: Final = 10
_READ_BYTES: Final = 1024**2


@dataclass(frozen=True)
class Entry:
    """One image of a source: its name in there, its class, a mark that changes when the file does, and its size."""

    name: str
    label: str
    mark: str
    size_bytes: int


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
        DatasetProblem: It is missing, no whole archive, or has fewer than two classes of images.
        DatasetAway: The file system did not give it, and may another time.
    """
    with ExitStack() as opened:
        try:
            source = _again_if_away(dataset, lambda: _open(path, opened))
        except (MemoryError, DatasetAway):
            raise
        except FileNotFoundError as error:
            raise DatasetProblem("missing", dataset) from error
        except Exception as error:  # foreign bytes raise anything: zlib.error, LZMAError, struct.error
            raise DatasetProblem("bad_archive", dataset, cause=_in_words(error)) from error
        yield _checked(dataset, source)


def _open(path: Path, opened: ExitStack) -> Source:
    path.stat()
    if path.is_dir():
        return _Folder(path)
    if zipfile.is_zipfile(path):
        return _Zip(opened.enter_context(zipfile.ZipFile(path)))
    return _Tar(opened.enter_context(tarfile.open(path)))


def is_for_evaluation(position: int) -> bool:
    """Whether the image at `position` of its class (by name) is held out: the first one and every tenth."""
    return position % _TEN == 0


def decode_all(dataset: str, source: Source, side_px: int, threads: int) -> Iterator[tuple[Entry, NDArray[np.uint8]]]:
    """Every image, cut to its central square and scaled to `side_px`, in order of name.

    Raises:
        DatasetProblem: `bad_image`, with its name: truncated, of no known format, or too large to be one.
        DatasetAway: The file system did not give one, and may another time.
    """
    with ThreadPoolExecutor(threads) as pool:
        # In portions, so that a slow consumer does not make the whole set pile up in memory.
        for entries in _portions(source.entries, _ENTRIES_PER_THREAD * threads):
            contents = [_contents(dataset, source, entry) for entry in entries]  # one archive, one reader
            yield from zip(
                entries,
                pool.map(lambda both: _decode(dataset, both[0], both[1], side_px), zip(entries, contents, strict=True)),
                strict=True,
            )


def _portions(entries: tuple[Entry, ...], count: int) -> Iterator[list[Entry]]:
    """At most `count` entries at a time, and no more bytes than one portion may have, unless it is a single one."""
    portion: list[Entry] = []
    held_bytes = 0
    for entry in entries:
        if portion and (len(portion) == count or held_bytes + entry.size_bytes > _PORTION_BYTES):
            yield portion
            portion, held_bytes = [], 0
        portion.append(entry)
        held_bytes += entry.size_bytes
    if portion:
        yield portion


def _contents(dataset: str, source: Source, entry: Entry) -> bytes:
    if entry.size_bytes > LARGEST_ENTRY_BYTES:
        cause = f"{entry.size_bytes} bytes, {LARGEST_ENTRY_BYTES} are the most"
        raise DatasetProblem("bad_image", dataset, entry.name, cause)
    try:
        return _again_if_away(dataset, lambda: source.read(entry.name))
    except (MemoryError, DatasetAway):
        raise
    except Exception as error:  # an encrypted entry, an unknown method, a damaged stream: each has its own
        raise DatasetProblem("bad_image", dataset, entry.name, _in_words(error)) from error


def _again_if_away(dataset: str, operation: Callable[[], T]) -> T:
    """What `operation` returns, which may ask a file system that fails for a moment.

    Raises:
        DatasetAway: It has failed for longer.
    """
    for pause_s in (*_AGAIN_AFTER_S, None):
        try:
            return operation()
        except OSError as error:
            # One without a number is no file system's: a decompressor's word on damaged bytes.
            if error.errno is None or error.errno in _FINAL_ERRORS:
                raise
            if pause_s is None:
                raise DatasetAway(dataset, _in_words(error)) from error
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _decode(dataset: str, entry: Entry, content: bytes, side_px: int) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > LARGEST_IMAGE_PIXELS:
                raise Image.DecompressionBombError(  # noqa: TRY301 - reported as any other problem of the image
                    f"{image.width} x {image.height} pixels, {LARGEST_IMAGE_PIXELS} are the most"
                )
            picture = image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:  # on foreign bytes a decoder raises anything: OSError, SyntaxError, struct.error
        raise DatasetProblem("bad_image", dataset, entry.name, _in_words(error)) from error
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


def _entries(files: dict[str, tuple[int, str]]) -> tuple[Entry, ...]:
    """The images among files, of which size and mark are given by name. Their marks make the prepared set's name."""
    return tuple(
        Entry(name, label, mark, size_bytes)
        for name, (size_bytes, mark) in sorted(files.items())
        if (label := _label_of(name))
    )


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root
        files = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        stats = {name: path.stat() for name, path in files.items()}
        self.entries = _entries(
            {name: (stat.st_size, f"{stat.st_size}:{stat.st_mtime_ns}") for name, stat in stats.items()}
        )

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


class _Zip:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        infos = [info for info in archive.infolist() if not info.is_dir()]
        self.entries = _entries({one.filename: (one.file_size, f"{one.file_size}:{one.CRC}") for one in infos})

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


class _Tar:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members = {member.name: member for member in archive if member.isfile()}
        _check_end(archive)
        self.entries = _entries(
            {name: (one.size, f"{one.size}:{one.mtime}:{one.chksum}") for name, one in self._members.items()}
        )

    def read(self, name: str) -> bytes:
        file = self._archive.extractfile(self._members[name])
        content = file.read() if file else b""
        if len(content) != self._members[name].size:
            raise EOFError(f"{len(content)} of {self._members[name].size} bytes are there")
        return content


def _check_end(archive: tarfile.TarFile) -> None:
    """That the archive ends where its members do: `tarfile` takes a header that it cannot read for the end.

    Reads it to its last byte, so that the checksum of a compressed one is proven.

    Raises:
        tarfile.ReadError: The block of zeros that ends an archive (POSIX.1-1988) is missing.
    """
    stream: IO[bytes] | None = archive.fileobj  # type: ignore[assignment]  # typeshed has a narrower one
    if stream is None:
        raise tarfile.ReadError("the archive is closed")
    stream.seek(archive.offset)
    end = stream.read(tarfile.BLOCKSIZE)
    if end.count(0) != tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"it breaks off, or is damaged, at byte {archive.offset} of its contents")
    while stream.read(_READ_BYTES):
        pass
