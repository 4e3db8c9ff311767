"""The train engine contract: what is told on the way, what comes back, and who trains. Standard library only.

What is asked for is in `config.py`, and can be had from here too. Where a dataset is an `s3://` address, the caller
brings it into a local folder (a download, or Modal's read-only bucket mount) and names that in `TrainContext.data`:
engines hold no credentials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from engines.train.config import DIFFUSION_TRANSFORMER, IMAGE_CLASSIFIER, RECIPES, SHAPES, TrainConfig

__all__ = [
    "DIFFUSION_TRANSFORMER",
    "IMAGE_CLASSIFIER",
    "KEEP_LAST_CHECKPOINTS",
    "RECIPES",
    "SHAPES",
    "EventKind",
    "TrainConfig",
    "TrainContext",
    "TrainEngine",
    "TrainEvent",
    "TrainOutcome",
    "TrainResult",
    "ignore_checkpoint",
    "ignore_event",
    "never",
]

KEEP_LAST_CHECKPOINTS: Final = 5


class EventKind(StrEnum):
    """What a `TrainEvent` tells."""

    STARTED = "started"
    PROGRESS = "progress"
    EVALUATED = "evaluated"
    CHECKPOINT = "checkpoint"
    STOPPED = "stopped"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class TrainEvent:
    """Something that happened in a run; None where the kind has no such fact.

    Attributes:
        kind: What happened.
        step: Optimizer steps done.
        steps: Optimizer steps of the whole run.
        loss: Mean training loss since the last progress event.
        metrics: By name (`accuracy`, `recognised`, `eval_loss`), each a finite number.
        examples_per_s: Training examples per second since the last progress event.
        learning_rate: The rate of this step.
        peak_memory_bytes: Peak memory: the GPU's where one is used, else the process's resident set.
        path: The checkpoint's folder (`checkpoint`), or that of the one resumed from (`started`).
        message: What a `warning` has to say.
    """

    kind: EventKind
    step: int
    steps: int
    loss: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    examples_per_s: float | None = None
    learning_rate: float | None = None
    peak_memory_bytes: int | None = None
    path: str | None = None
    message: str | None = None

    def to_wire(self) -> dict[str, object]:
        """The event as a dict of JSON types, without what is None or empty; `from_wire` is its inverse."""
        wire = {name: value for name, value in vars(self).items() if value is not None and value != {}}
        return {**wire, "kind": self.kind.value} | ({"metrics": dict(self.metrics)} if self.metrics else {})

    @classmethod
    def from_wire(cls, wire: Mapping[str, object]) -> TrainEvent:
        """Builds an event from what `to_wire` made."""
        return cls(**{**wire, "kind": EventKind(str(wire["kind"]))})  # type: ignore[arg-type]  # our own wire, not a user's


def ignore_event(event: TrainEvent) -> None:
    """Hears nothing."""


def never() -> bool:
    """Says no."""
    return False


def ignore_checkpoint(path: Path) -> None:
    """Leaves a checkpoint where it is."""


@dataclass(frozen=True, kw_only=True)
class TrainContext:
    """Where a run lives and whom it talks to: everything that is not the config.

    Attributes:
        folder: The job's own folder; `step-N/` and `tensorboard/` appear in it. `checkpoints.job_folder` names it.
        cache: Folder for prepared datasets, shared between jobs and kept (a volume); each is made once.
        data: The resolved dataset where `config.dataset` is no local path (an `s3://` address); else None.
        data_roots: Folders that links within a dataset may lead to, beside itself; None: anywhere, for runs by hand.
        classifier: Checkpoint folder (a `step-N/`, or a job's) of the classifier that judges a transformer's samples.
        job: The job's id, for the metadata.
        resume: Continue from the newest whole checkpoint in `folder`; False refuses to run over an existing one.
        on_event: Called with each event, from the training thread; an exception out of it ends the run.
        on_checkpoint: Called with each checkpoint's folder when it is whole, before training continues
            (`volume.commit()`, a mirror to S3). What it raises ends the run.
        is_cancelled: Asked at every step; True ends the run with `TrainCancelled`. It must answer at once.
        stop_requested: Asked at every step; True saves a checkpoint at this step and ends as `PREEMPTED` (a container
            that is taken away, a time limit that nears, a move to another pool). It must answer at once.
        device: `auto` (CUDA where there is one), `cpu` or `cuda`.
        threads: CPU threads for the arithmetic; None leaves torch's own choice.
        data_workers: Processes that read batches ahead in each rank; None: one per four cores, shared by the ranks.
        git_revision: Of this code, where the caller knows it.
        wall_clock: Seconds since 1970.
    """

    folder: Path
    cache: Path
    data: Path | None = None
    data_roots: tuple[Path, ...] | None = None
    classifier: Path | None = None
    job: str = ""
    resume: bool = True
    on_event: Callable[[TrainEvent], None] = ignore_event
    on_checkpoint: Callable[[Path], None] = ignore_checkpoint
    is_cancelled: Callable[[], bool] = never
    stop_requested: Callable[[], bool] = never
    device: str = "auto"
    threads: int | None = None
    data_workers: int | None = None
    git_revision: str | None = None
    wall_clock: Callable[[], float] = time.time


class TrainOutcome(StrEnum):
    """How a run that did not fail ended."""

    FINISHED = "finished"
    PREEMPTED = "preempted"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A run's end.

    Attributes:
        outcome: All steps done, or stopped on request with a checkpoint to resume from.
        checkpoint: Folder of the newest checkpoint.
        step: Optimizer steps done, earlier runs of the job included.
        steps_run: Optimizer steps done by this run.
        metrics: Of the last evaluation.
        best: Folder of the checkpoint with the best evaluation; None where none was evaluated.
        seconds: Wall-clock seconds from the call to its return.
        cpu_s: CPU seconds of this process in that time.
        examples_per_s: Mean over this run's steps; 0 where it ran none.
        peak_memory_bytes: Peak resident memory of the process; a high-water mark of the whole process.
        peak_gpu_memory_bytes: Peak memory allocated on one GPU; None if no GPU was used.
        resumed_from: Folder of the checkpoint that this run continued; None if it began at step 0.
    """

    outcome: TrainOutcome
    checkpoint: Path
    step: int
    steps_run: int
    metrics: Mapping[str, float]
    best: Path | None
    seconds: float
    cpu_s: float
    examples_per_s: float
    peak_memory_bytes: int
    peak_gpu_memory_bytes: int | None
    resumed_from: Path | None

    def to_wire(self) -> dict[str, object]:
        """The result as a dict of JSON types; `from_wire` is its inverse."""
        wire = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}
        return {**wire, "outcome": self.outcome.value, "metrics": dict(self.metrics)}

    @classmethod
    def from_wire(cls, wire: Mapping[str, object]) -> TrainResult:
        """Builds a result from what `to_wire` made."""
        paths = {name: Path(str(wire[name])) if wire[name] else None for name in ("checkpoint", "best", "resumed_from")}
        return cls(**{**wire, **paths, "outcome": TrainOutcome(str(wire["outcome"]))})  # type: ignore[arg-type]  # ours


@runtime_checkable
class TrainEngine(Protocol):
    """What trains; `engines.train.engine.TorchTrainEngine` is the one."""

    def train(self, config: TrainConfig, context: TrainContext) -> TrainResult:
        """Trains until done, stopped, cancelled or failed.

        Raises:
            TorchMissing: This installation cannot train.
            InvalidTrainConfig: The config does not fit this run (the batch cannot be divided among the ranks).
            DatasetProblem: The data cannot be trained on.
            CheckpointProblem: The folder holds another model's checkpoints, or cannot be written.
            VolumeFull: No space; the last good checkpoint is kept.
            OutOfMemory: The GPU or the host had too little memory; the last good checkpoint is kept.
            TrainingDiverged: The loss is not finite.
            TrainCancelled: `is_cancelled` returned true.
            RankFailed: A process of several died.
        """
        ...
