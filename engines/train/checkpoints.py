"""Checkpoints on disk: written whole or not at all, proven before use, kept by one rule. See docs/checkpoints.md.

Knows files, digests and metadata, not tensors (`state.py` does): the control plane may list and copy checkpoints.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from engines.train.contract import KEEP_LAST_CHECKPOINTS
from engines.train.errors import CheckpointProblem, VolumeFull

FORMAT: Final = 1
METADATA_FILE: Final = "metadata.json"
#: TensorBoard's event files, beside the `step-N` folders.
JOURNAL_FOLDER: Final = "tensorboard"
_STEP_PREFIX: Final = "step-"
_UNFINISHED_PREFIX: Final = ".unfinished-"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its digests have been proven, or it was just written.

    Attributes:
        path: Its folder, `step-N`.
        metadata: The contents of `metadata.json`.
    """

    path: Path
    metadata: Mapping[str, Any]

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return int(self.metadata["step"])

    @property
    def score(self) -> float | None:
        """How good it is, higher is better; None where it was not evaluated."""
        score = self.metadata.get("score")
        return None if score is None else float(score)


def job_folder(root: Path, kind: str, day: dt.date, job: str) -> Path:
    """`{root}/{kind}/{YYYY-MM-DD}/{job}`, `root` being a volume's or a bucket's `checkpoints`.

    Args:
        root: The folder of all checkpoints.
        kind: The recipe.
        day: The day the job was created on, not the attempt: each attempt must find the same folder.
        job: The job's id.
    """
    return root / kind / day.isoformat() / job


def step_folders(folder: Path) -> list[Path]:
    """The `step-N` folders in a job's folder, newest first, whole or not."""
    found = [path for path in folder.glob(f"{_STEP_PREFIX}*") if path.name.removeprefix(_STEP_PREFIX).isdecimal()]
    return sorted(found, key=_step_of, reverse=True)


def read(path: Path) -> Checkpoint:
    """Reads a `step-N` folder and proves that it is whole.

    Raises:
        CheckpointProblem: `none` where there is no such folder; `torn` where a file is missing or its digest is wrong.
    """
    if not path.is_dir():
        raise CheckpointProblem("none", str(path))
    metadata = _read_metadata(path)
    for name, digest in metadata["files"].items():
        try:
            found = _sha256_of(path / name)
        except OSError as error:
            raise CheckpointProblem("torn", str(path), f"{name}: {error.strerror}") from error
        if found != digest:
            raise CheckpointProblem("torn", str(path), f"{name}: the SHA-256 is {found}, not {digest}")
    return Checkpoint(path, metadata)


def newest_whole(folder: Path, on_torn: Callable[[CheckpointProblem], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; each newer one that is torn is told to `on_torn` and left where it is."""
    for path in step_folders(folder):
        try:
            return read(path)
        except CheckpointProblem as problem:
            on_torn(problem)
    return None


def find(path: Path) -> Checkpoint:
    """What somebody who names a folder means: a `step-N` itself, or a job's best checkpoint, else its newest.

    Raises:
        CheckpointProblem: There is none, or the one that was named is torn.
    """
    if (path / METADATA_FILE).exists():
        return read(path)
    best = best_of(path)
    candidates = [best] if best else []
    for candidate in [*candidates, *step_folders(path)]:
        try:
            return read(candidate)
        except CheckpointProblem:
            continue
    raise CheckpointProblem("none", str(path))


def best_of(folder: Path) -> Path | None:
    """The checkpoint with the highest score, the newer one of equals; None where none was evaluated."""
    scored = [(score, _step_of(path), path) for path in step_folders(folder) if (score := _score_of(path)) is not None]
    return max(scored)[2] if scored else None


def write(folder: Path, step: int, files: Mapping[str, bytes], facts: Mapping[str, object]) -> Checkpoint:
    """Writes `step-{step}` so that it is whole or absent, whatever dies: temporary name, fsync, rename, fsync.

    Args:
        folder: The job's folder; made if need be.
        step: Optimizer steps done.
        files: Contents by name.
        facts: What `metadata.json` says beside format, step, digests.

    Raises:
        VolumeFull: No space. What was begun is removed, older checkpoints are untouched.
        CheckpointProblem: `unwritable`, for every other refusal of the file system.
    """
    unfinished = folder / f"{_UNFINISHED_PREFIX}{_STEP_PREFIX}{step}"
    final = folder / f"{_STEP_PREFIX}{step}"
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    metadata = {"format": FORMAT, "step": step, **facts, "files": digests}
    text = json.dumps(metadata, indent=2, sort_keys=True, allow_nan=False).encode()
    try:
        _remove(unfinished)
        unfinished.mkdir(parents=True)
        for name, content in {**files, METADATA_FILE: text}.items():
            _write_durably(unfinished / name, content)
        _sync_folder(unfinished)
        _remove_at_once(final)  # a torn one, or one that has got its score since: a whole one is resumed from
        unfinished.rename(final)
        _sync_folder(folder)
    except OSError as error:
        needed_bytes = len(text) + sum(map(len, files.values()))
        _remove(unfinished)
        raise write_error(error, folder, needed_bytes, last_good(folder)) from error
    return Checkpoint(final, json.loads(text))


def install(unfinished: Path, final: Path) -> Checkpoint:
    """Gives a folder whose digests have been proven its name. A whole one that has the name already is kept.

    Several processes of one host may do so at once; a folder is removed only if it is torn.

    Raises:
        CheckpointProblem: What has the name is of another format.
    """
    with _alone_in(final.parent):
        if final.exists():
            try:
                return read(final)
            except CheckpointProblem as problem:
                if problem.flaw != "torn":
                    raise
            _remove_at_once(final)
        unfinished.rename(final)
    return read(final)


def write_error(error: OSError, folder: Path, needed_bytes: int, last: Path | None) -> VolumeFull | CheckpointProblem:
    """The typed error for an error of the file system."""
    if error.errno in _FULL:
        return VolumeFull(str(folder), needed_bytes, free_bytes(folder), str(last) if last else None)
    return CheckpointProblem("unwritable", str(folder), str(error))


def last_good(folder: Path) -> Path | None:
    """The newest checkpoint that is whole."""
    found = newest_whole(folder, lambda _: None)
    return found.path if found else None


def prune(folder: Path, keep_last: int = KEEP_LAST_CHECKPOINTS) -> list[Path]:
    """Removes all but the newest `keep_last` checkpoints and the best one; returns what was removed."""
    best = best_of(folder)
    surplus = [path for path in step_folders(folder)[keep_last:] if path != best]
    for path in surplus:
        _remove_at_once(path)
    return surplus


def sweep_unfinished(folder: Path) -> None:
    """Removes what a killed run had begun to write. Only for the one run that owns the folder."""
    for path in folder.glob(f"{_UNFINISHED_PREFIX}*"):
        _remove(path)


def free_bytes(folder: Path) -> int:
    """Free space where `folder` is, or will be."""
    existing: Sequence[Path] = [path for path in (folder, *folder.absolute().parents) if path.exists()]
    return shutil.disk_usage(existing[0]).free


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix(_STEP_PREFIX))


def _score_of(path: Path) -> float | None:
    try:
        return Checkpoint(path, _read_metadata(path)).score
    except CheckpointProblem:
        return None


def _read_metadata(path: Path) -> Mapping[str, Any]:
    try:
        metadata = json.loads((path / METADATA_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointProblem("torn", str(path), f"{METADATA_FILE}: {error}") from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("files"), dict) or "step" not in metadata:
        raise CheckpointProblem("torn", str(path), f"{METADATA_FILE}: not a checkpoint's")
    if metadata.get("format") != FORMAT:
        raise CheckpointProblem(
            "other_model", str(path), f"format {metadata.get('format')}, this version reads {FORMAT}"
        )
    return metadata


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    # A rename is only durable once its folder is. Some network file systems refuse; they have no such promise to give.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)


def _remove_at_once(path: Path) -> None:
    # Renamed first: a folder that is half removed must not look like a torn checkpoint.
    doomed = path.with_name(f"{_UNFINISHED_PREFIX}{path.name}-{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        path.rename(doomed)
        _remove(doomed)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Lets one process (and thread) of this host at a time in."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems lock no folders; what is read is proven all the same
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
