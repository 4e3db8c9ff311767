"""The prepared set: pictures of one size as plain arrays in the cache, made once, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from engines.train.checkpoints import write_error
from engines.train.contract import SHAPES
from engines.train.data import images, pictures, shapes
from engines.train.data.addresses import is_in_s3
from engines.train.errors import DatasetProblem

_DESCRIPTION: Final = "dataset.json"
_FORMAT: Final = 1
_LABEL_BYTES: Final = 8


class Part:
    """Pictures (n, side, side, 3), 8 bit, mapped from disk, and their classes (n).

    Sent to another process as the path that it is: a map would be sent as all its contents.
    """

    def __init__(self, folder: Path, name: str, side_px: int) -> None:
        self._arguments = (folder, name, side_px)
        self.labels: NDArray[np.int64] = np.fromfile(folder / f"{name}-labels.i64", dtype=np.int64)
        shape = (len(self.labels), side_px, side_px, 3)
        self.pictures: NDArray[np.uint8] = np.memmap(
            folder / f"{name}-pictures.u8", dtype=np.uint8, mode="r", shape=shape
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __reduce__(self) -> tuple[type[Part], tuple[Path, str, int]]:
        return Part, self._arguments


@dataclass(frozen=True)
class PreparedSet:
    """A set that can be trained on.

    Attributes:
        classes: Their names; a label is a position in here.
        train: What is learnt from.
        evaluation: What is held out.
        notes: What was left out of it, a sentence for each reason; for the run's events.
    """

    classes: tuple[str, ...]
    train: Part
    evaluation: Part
    notes: tuple[str, ...] = ()


def prepare(
    *,
    dataset: str,
    data: Path | None,
    cache: Path,
    side_px: int,
    threads: int,
    roots: Sequence[Path] | None = None,
) -> PreparedSet:
    """Opens the set in the cache; makes it first where it is not there yet.

    Args:
        dataset: As the config names it.
        data: Where the caller has put it; None where `dataset` is a path itself, or `shapes`.
        cache: Folder of all prepared sets.
        side_px: Side that the pictures are scaled to.
        threads: Decoders at work.
        roots: Folders that links within a folder may lead to, beside itself; None: anywhere.

    Raises:
        DatasetProblem: It cannot be trained on.
        VolumeFull: No space in the cache.
    """
    if dataset == SHAPES and data is None:
        key = f"{SHAPES}-v{shapes.VERSION}-{side_px}px"
        if not (cache / key).exists():
            _make(cache, key, lambda folder: _store_shapes(folder, side_px))
        return _open(cache / key)
    if data is None and is_in_s3(dataset):
        raise DatasetProblem("unresolved", dataset)
    with images.open_source(dataset, data or Path(dataset), roots) as found:
        # Another version of the code that prepares makes another set: an old one must not stay in use.
        key = f"images-v{pictures.VERSION}-{_fingerprint(found)}-{side_px}px"
        if not (cache / key).exists():
            _make(cache, key, lambda folder: _store_images(folder, dataset, found, side_px, threads))
    return replace(_open(cache / key), notes=tuple(found.notes))


def _make(cache: Path, key: str, store: Callable[[Path], None]) -> None:
    """Fills a folder of another name and renames it; the second process with the same set discards its own."""
    folder: Path | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".unfinished-{key}-", dir=cache))
        store(folder)
        folder.rename(cache / key)
    except OSError as error:
        if not (cache / key / _DESCRIPTION).exists():
            raise write_error(error, cache, 0, None) from error
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _open(folder: Path) -> PreparedSet:
    with suppress(OSError):  # in use: a host sweeps old sets out of its cache
        os.utime(folder)
    description = json.loads((folder / _DESCRIPTION).read_bytes())
    side_px = int(description["side_px"])
    train, evaluation = (Part(folder, name, side_px) for name in ("train", "evaluation"))
    return PreparedSet(tuple(description["classes"]), train, evaluation)


def _store_shapes(folder: Path, side_px: int) -> None:
    for name, per_class, number in (("train", shapes.TRAIN_PER_CLASS, 0), ("evaluation", shapes.EVAL_PER_CLASS, 1)):
        pictures, labels = shapes.draw(per_class=per_class, side_px=side_px, part=number)
        with _writer(folder, name) as part:
            part.add(pictures, labels)
    _describe(folder, shapes.CLASSES, side_px)


def _store_images(folder: Path, dataset: str, found: images.ImageSet, side_px: int, threads: int) -> None:
    classes = tuple(sorted({entry.label for entry in found.entries}))
    counts = {True: 0, False: 0}
    places: dict[str, int] = {}
    for entry in found.entries:
        places[entry.name] = counts[entry.is_held_out]
        counts[entry.is_held_out] += 1
    with _writer(folder, "train") as train, _writer(folder, "evaluation") as evaluation:
        # In the order in which the source is read; each to the place that its name gives it, however it was packed.
        for entry, picture in images.decode_all(dataset, found, side_px, threads):
            part = evaluation if entry.is_held_out else train
            part.put(places[entry.name], picture, classes.index(entry.label))
    _describe(folder, classes, side_px)


def _describe(folder: Path, classes: tuple[str, ...], side_px: int) -> None:
    text = json.dumps({"format": _FORMAT, "classes": classes, "side_px": side_px}, indent=2)
    (folder / _DESCRIPTION).write_text(text, encoding="utf-8")


@dataclass
class _Writer:
    # Plain writes, not a memory map: a full disk is then an error and not a SIGBUS.
    pictures: IO[bytes]
    labels: IO[bytes]

    def add(self, pictures: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.pictures.write(pictures.tobytes())
        self.labels.write(labels.astype(np.int64).tobytes())

    def put(self, place: int, picture: NDArray[np.uint8], label: int) -> None:
        self.pictures.seek(place * picture.nbytes)
        self.labels.seek(place * _LABEL_BYTES)
        self.add(picture, np.array([label], dtype=np.int64))


@contextmanager
def _writer(folder: Path, name: str) -> Iterator[_Writer]:
    with (folder / f"{name}-pictures.u8").open("wb") as pictures, (folder / f"{name}-labels.i64").open("wb") as labels:
        yield _Writer(pictures, labels)
        for file in (pictures, labels):
            file.flush()
            os.fsync(file.fileno())


def _fingerprint(found: images.ImageSet) -> str:
    digest = hashlib.sha256()
    for entry in found.entries:
        facts = (entry.name, entry.label, entry.is_held_out, entry.mark)
        digest.update(repr(facts).encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
