"""Tiny training runs for tests: configs, contexts, and a run in a process that a test may kill.

Imports torch only inside what needs it, so that a test module can skip where torch is missing.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from engines.train.contract import EventKind, TrainConfig, TrainContext, TrainEvent, TrainResult

# torch imports `torch._dynamo` at the first optimizer step, for two seconds.
_PRELOADED = ["engines.train.single", "engines.train.recipes.diffusion_transformer", "torch._dynamo", __name__]


def tiny_transformer(**changes: Any) -> TrainConfig:
    """A diffusion transformer of a few thousand numbers on pictures of 8 pixels."""
    sizes = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 1, "heads": 2}
    run = {"steps": 12, "batch_size": 8, "checkpoint_every_steps": 4, "log_every_steps": 1, "warmup_steps": 4}
    rest = {"eval_examples": 24, "sample_steps": 2}
    return TrainConfig(**{"recipe": "diffusion_transformer", **sizes, **run, **rest, **changes})


def tiny_classifier(**changes: Any) -> TrainConfig:
    """A classifier of a few thousand numbers on pictures of 8 pixels."""
    sizes = {"image_size": 8, "width": 8, "depth": 1}
    run = {"steps": 12, "batch_size": 8, "checkpoint_every_steps": 4, "log_every_steps": 1, "warmup_steps": 4}
    return TrainConfig(**{"recipe": "image_classifier", **sizes, **run, "eval_examples": 24, **changes})


@dataclass
class Heard:
    """What a run has told."""

    events: list[TrainEvent] = field(default_factory=list)

    def __call__(self, event: TrainEvent) -> None:
        self.events.append(event)

    def of(self, kind: EventKind) -> list[TrainEvent]:
        """The events of one kind."""
        return [event for event in self.events if event.kind is kind]


def context(folder: Path, cache: Path, **changes: Any) -> TrainContext:
    """One thread, no other processes, on the CPU."""
    return TrainContext(
        **{"folder": folder, "cache": cache, "device": "cpu", "threads": 1, "data_workers": 0, **changes}
    )


def train(config: TrainConfig, where: TrainContext) -> TrainResult:
    """Runs it here."""
    from engines.train.engine import TorchTrainEngine

    return TorchTrainEngine().train(config, where)


def after(step: int, of: Heard) -> Callable[[], bool]:
    """True once so many steps are done."""
    return lambda: bool(of.events) and of.events[-1].step >= step


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """The kernel refuses longer files with EFBIG, as a full disk would with ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class KillableRun:
    """A run in a process of its own, which tells each step through a pipe; forked from one that has torch loaded."""

    def __init__(self, config: TrainConfig, folder: Path, cache: Path) -> None:
        forks = multiprocessing.get_context("forkserver")
        forks.set_forkserver_preload(_PRELOADED)
        self._heard, told = forks.Pipe(duplex=False)
        self._process: ForkServerProcess = forks.Process(target=_run, args=(config, folder, cache, told))
        self._process.start()
        told.close()

    def next_event(self, timeout_s: float = 60) -> TrainEvent | None:
        """The next event; None once the run has ended."""
        if not self._heard.poll(timeout_s):
            raise TimeoutError("expected an event of the run, none came")
        try:
            return TrainEvent.from_wire(self._heard.recv())
        except EOFError:
            return None

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self.end()

    def end(self) -> int | None:
        """Waits for its end; its exit code."""
        self._process.join(60)
        self._heard.close()
        return self._process.exitcode


def _run(config: TrainConfig, folder: Path, cache: Path, told: Connection) -> None:
    train(config, context(folder, cache, on_event=lambda event: told.send(event.to_wire())))
