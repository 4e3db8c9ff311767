"""A run on several devices: starts torchrun, whose ranks train, and speaks for them to the caller.

The first rank writes what happens as JSON lines into a file of the run's own folder, each rank its error into another;
what the caller wants (to stop) reaches them as a file there. So the callbacks of the context stay in this process,
where they belong. Files, because torchrun hands no open pipe on to its ranks.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

from engines.train.contract import EventKind, TrainConfig, TrainContext, TrainEvent, TrainResult
from engines.train.errors import RankFailed, TrainError, error_from_wire

JOB_FILE: Final = "job.json"
REPORT_FILE: Final = "report.jsonl"
STOP_FILE: Final = "stop"
CANCEL_FILE: Final = "cancel"
_POLL_S: Final = 0.2
_GRACE_S: Final = 10.0


def train(config: TrainConfig, context: TrainContext) -> TrainResult:
    """Trains on `config.gpus` ranks of this host; see `contract.TrainEngine`.

    `context.on_checkpoint` is called while the ranks train on: the checkpoint is whole and is no longer touched.
    """
    with tempfile.TemporaryDirectory(prefix="torchrun-") as name:
        folder = Path(name)
        job = {"config": config.to_wire(), "context": _plain(context), "launcher": os.getpid()}
        (folder / JOB_FILE).write_text(json.dumps(job))
        (folder / REPORT_FILE).touch()
        with (folder / "errors").open("w+b") as errors, (folder / REPORT_FILE).open(encoding="utf-8") as report:
            process = _start(folder, config.gpus, errors)
            try:
                ending = _follow(process, report, context, folder)
            finally:
                _end(process)
            if "result" in ending:
                return TrainResult.from_wire(ending["result"])
            told = _error_of(folder)
            if told is not None:
                raise told
            errors.seek(0)
            raise RankFailed(process.returncode, errors.read().decode(errors="replace"))


def _start(folder: Path, ranks: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    # Standalone: the meeting point is on loopback, on a port that the system picks.
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // ranks)), **os.environ}
    root = str(Path(__file__).parents[2])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(  # noqa: S603 - this very interpreter, and arguments of our own making
        [*launcher, "-m", "engines.train.rank", str(folder)], env=environment, stdout=subprocess.DEVNULL, stderr=errors
    )


def _follow(
    process: subprocess.Popen[bytes], report: IO[str], context: TrainContext, folder: Path
) -> Mapping[str, Any]:
    """Passes on what the first rank reports, and to it what the caller wants, until torchrun has ended."""
    unfinished, ending = "", {}
    while True:
        is_over = process.poll() is not None  # asked before reading: what was written before the end is then read
        *lines, unfinished = (unfinished + report.read()).split("\n")
        for message in map(json.loads, lines):
            if "event" in message:
                _pass_on(TrainEvent.from_wire(message["event"]), context)
            else:
                ending = message
        if is_over or _has_failed(folder):  # the other ranks would wait for one that failed a while longer
            return ending
        if context.is_cancelled():
            (folder / CANCEL_FILE).touch()
        if context.stop_requested():
            (folder / STOP_FILE).touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)


def error_file(folder: Path, rank: int) -> Path:
    """Where a rank writes down what it failed of."""
    return folder / f"error-{rank}.json"


def _has_failed(folder: Path) -> bool:
    return next(folder.glob("error-*.json"), None) is not None


def _error_of(folder: Path) -> TrainError | None:
    """What the run failed of: a rank's error with a name, else the first one. None: no rank could say."""
    files = sorted(folder.glob("error-*.json"), key=lambda path: path.stat().st_mtime_ns)
    told = [error_from_wire(json.loads(path.read_bytes())) for path in files]
    # A rank whose peer died fails too, of a lost connection.
    return next((error for error in told if not isinstance(error, RankFailed)), told[0] if told else None)


def _pass_on(event: TrainEvent, context: TrainContext) -> None:
    context.on_event(event)
    # A run of very short steps may have pruned it meanwhile; then a newer one is about to be told.
    if event.kind is EventKind.CHECKPOINT and event.path and Path(event.path).exists():
        context.on_checkpoint(Path(event.path))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Makes sure that no rank outlives the run."""
    if process.poll() is None:
        process.terminate()  # torchrun passes it on to its ranks
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _plain(context: TrainContext) -> dict[str, object]:
    """The part of a context that another process can use."""
    paths = {name: str(path) if path else None for name, path in _paths(context).items()}
    names = ("job", "resume", "device", "threads", "data_workers", "git_revision")
    roots = None if context.data_roots is None else [str(root.absolute()) for root in context.data_roots]
    return {**paths, **{name: getattr(context, name) for name in names}, "data_roots": roots}


def _paths(context: TrainContext) -> dict[str, Path | None]:
    return {
        "folder": context.folder.absolute(),
        "cache": context.cache.absolute(),
        "data": context.data.absolute() if context.data else None,
        "classifier": context.classifier.absolute() if context.classifier else None,
    }
