"""Scratch cleanup: folders of earlier runs below `OVERSPILL_TRAIN_FOLDER`, removed by age when a GPU worker starts.

Whoever uses a folder touches it, so an old one is not in use: a run writes its curve at each report, and datasets,
prepared sets, classifiers and models are touched each time that somebody begins with them. What a process has mapped
into memory stays there, though its name is gone.
"""

import contextlib
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from infra.background import BackgroundService

log = structlog.get_logger(__name__)

#: What nobody has touched for so long goes, seconds.
KEPT_UNUSED_S = 14 * 86_400.0
#: Of a large folder so many entries are looked at.
_LOOKED_AT = 1_000
#: Below the train folder: what may be removed whole, and at which depth it lies.
_SWEPT = (
    "checkpoints/*/*/*",
    "models/*/*/*",
    "models/*/*/*/.unfinished-*",
    "cache/classifiers/*",
    "cache/classifiers/*/.unfinished-*",
    "cache/s3/*",
    "cache/*",
)
#: Not to be taken for a prepared set: folders of others, swept one by one.
_SHELVES = ("classifiers", "s3")


class ScratchCleanup(BackgroundService):
    """Sweeps once, in a thread: a large folder takes a while, and nobody waits for it."""

    def __init__(self, root: Path) -> None:
        super().__init__("scratch-cleanup")
        self._root = root

    def run(self) -> None:
        """Sweep."""
        removed = clean_scratch(self._root, now_s=time.time())
        if removed:
            log.info("training.scratch_removed", number=len(removed))
        self.is_ready.set()


def clean_scratch(root: Path, *, now_s: float, kept_unused_s: float = KEPT_UNUSED_S) -> list[Path]:
    """Remove what has not been touched for `kept_unused_s` seconds; returns what it was.

    Args:
        root: `OVERSPILL_TRAIN_FOLDER`.
        now_s: seconds since 1970, by the clock of the file system's host.
        kept_unused_s: what is younger stays.
    """
    removed = []
    for path in list(_candidates(root)):
        with contextlib.suppress(OSError):  # another worker of this host was first, or it is not ours to remove
            if now_s - _last_touched_s(path) > kept_unused_s:
                # Renamed first: half a dataset must not look like a whole one.
                doomed = path.with_name(f".unfinished-{secrets.token_hex(8)}")
                path.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=True)
                removed.append(path)
    return removed


def _candidates(root: Path) -> Iterator[Path]:
    for pattern in _SWEPT:
        for path in root.glob(pattern):
            if path.is_dir() and not (pattern == "cache/*" and path.name in _SHELVES):
                yield path


def _last_touched_s(path: Path) -> float:
    entries = itertools.islice(itertools.chain(path.glob("*"), path.glob("*/*")), _LOOKED_AT)
    return max(one.stat().st_mtime for one in (path, *entries))


def touch(folder: Path) -> None:
    """Say that a folder is in use. One that is not there, or not ours to touch, is left."""
    with contextlib.suppress(OSError):
        os.utime(folder)
