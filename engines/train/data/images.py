"""Images per class, out of any source: which of its files they are, what is left out, and their pixels."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.train.data import pictures, sources
from engines.train.data.chosen import Chosen, Entry, choose
from engines.train.data.files import NotRegular
from engines.train.data.sources import Source, TooLarge
from engines.train.errors import DatasetAway, DatasetProblem

T = TypeVar("T")

#: Encoded images held at a time by each thread, and bytes held together.
_ENTRIES_PER_THREAD: Final = 16
_PORTION_BYTES: Final = 256 * 1024**2
#: A mounted bucket fails from time to time: pauses before a read is retried, seconds.
_AGAIN_AFTER_S: Final = (0.5, 2.0, 5.0)
#: What a file system says for good; its other refusals may pass.
_FINAL_ERRORS: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
)


@dataclass(frozen=True)
class ImageSet:
    """A set that was opened.

    Attributes:
        source: Gives the bytes.
        chosen: Which of its files are examples, and what is to be said of the others.
    """

    source: Source
    chosen: Chosen

    @property
    def entries(self) -> Sequence[Entry]:
        """All examples, sorted by name."""
        return self.chosen.entries

    @property
    def notes(self) -> Sequence[str]:
        """What was left out, one sentence for each reason."""
        return self.chosen.notes


@contextmanager
def open_source(dataset: str, path: Path, roots: Sequence[Path] | None = None) -> Iterator[ImageSet]:
    """Opens what lies at `path`: a folder, a tar (plain or compressed) or a zip.

    Args:
        dataset: As the config names it, for errors.
        path: Where it is.
        roots: Folders that links within a folder may lead to, beside itself; None: anywhere.

    Raises:
        DatasetProblem: It is missing, no whole archive, laid out in no way that is known, or has fewer than two classes
            of images.
        DatasetAway: The file system did not give it, and may another time.
    """
    with ExitStack() as opened:
        try:
            source = _again_if_away(dataset, lambda: sources.open_any(path, roots, opened))
        except (MemoryError, DatasetAway):
            raise
        except FileNotFoundError as error:
            raise DatasetProblem("missing", dataset) from error
        except NotRegular as error:
            raise DatasetProblem("special_file", dataset, cause=_in_words(error)) from error
        except TooLarge as error:
            raise DatasetProblem("too_large", dataset, cause=_in_words(error)) from error
        except Exception as error:  # foreign bytes raise anything: zlib.error, LZMAError, struct.error
            raise DatasetProblem("bad_archive", dataset, cause=_in_words(error)) from error
        yield ImageSet(source, choose(dataset, source.found))


def decode_all(dataset: str, images: ImageSet, side_px: int, threads: int) -> Iterator[tuple[Entry, NDArray[np.uint8]]]:
    """Every image, cut to its central square and scaled to `side_px`, in the order in which the source is read.

    Raises:
        DatasetProblem: `bad_image`, with its name: truncated, of no known format, or too large to be one.
        DatasetAway: The file system did not give one, and may another time.
    """
    by_name = {entry.name: entry for entry in images.entries}
    in_order = [by_name.pop(one.name) for one in images.source.found if not one.not_read and one.name in by_name]
    with ThreadPoolExecutor(threads) as pool:
        # In portions, so that a slow consumer does not make the whole set pile up in memory.
        for entries in _portions(in_order, _ENTRIES_PER_THREAD * threads):
            contents = [_contents(dataset, images.source, entry) for entry in entries]  # one archive, one reader
            yield from zip(
                entries,
                pool.map(lambda both: _decode(dataset, both[0], both[1], side_px), zip(entries, contents, strict=True)),
                strict=True,
            )


def _portions(entries: Sequence[Entry], count: int) -> Iterator[list[Entry]]:
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
    if entry.size_bytes > sources.LARGEST_ENTRY_BYTES:
        cause = f"{entry.size_bytes} bytes, {sources.LARGEST_ENTRY_BYTES} are the most"
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
        return pictures.decode(content, entry.name, side_px)
    except MemoryError:
        raise
    except Exception as error:  # on foreign bytes a decoder raises anything: OSError, SyntaxError, struct.error
        raise DatasetProblem("bad_image", dataset, entry.name, _in_words(error)) from error
