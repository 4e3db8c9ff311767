"""One training run inside a container: the engine in a thread, so that the container can be told to stop meanwhile.

A container that is taken away gets SIGINT and 30 seconds. The signal strikes the main thread, where it must not tear a
step apart; so the engine works in another, is asked to stop, and leaves a checkpoint at the step it is at.
"""

import dataclasses
import gc
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from engines.train.checkpoints import step_folders
from engines.train.contract import RECIPES, EventKind, TrainConfig, TrainContext, TrainEngine, TrainEvent, TrainResult
from engines.train.data.addresses import is_in_s3
from engines.train.errors import DatasetProblem
from engines.train.words import event_line
from modal_apps.envelope import RemoteError
from modal_apps.training_errors import in_words
from modal_apps.training_request import TrainRequest
from modal_apps.training_rows import RowFile, rows_path

#: Modal gives 30 seconds; the rest is for the volume's last commit, seconds.
SAVE_WITHIN_S = 25.0
_LOOK_EVERY_S = 0.2
#: Of Modal's refusal to reload a volume.
_OPEN_FILES = "open files"


class Committed(Protocol):
    """What of a `modal.Volume` a run needs."""

    def commit(self) -> None:
        """Make what was written durable and visible to others."""

    def reload(self) -> None:
        """See what others have committed."""


@dataclass(frozen=True)
class Answer:
    """What a method answers: exactly one of `value` and `error` is set."""

    value: Mapping[str, Any] | None = None
    error: RemoteError | None = None
    peak_gpu_memory_bytes: int | None = None


class TrainingRun:
    """One segment of one job. `go` runs it; `save_and_end` may be called from the exit hook, whenever it runs."""

    def __init__(
        self,
        engine: TrainEngine,
        *,
        root: Path,
        cache: Path,
        data_root: Path,
        volume: Committed,
        on_percent: Callable[[float], None],
        attempt: int = 0,
    ) -> None:
        self._engine = engine
        self._root, self._cache, self._data_root = root, cache, data_root
        self._volume = volume
        self._on_percent = on_percent
        self._attempt = attempt
        self._stop, self._cancelled = threading.Event(), threading.Event()
        # Not the thread's `join` and `is_alive`: in Python 3.11 a join that a signal interrupts takes the thread for
        # ended, and the container would go down in the middle of a step.
        self._begun, self._ended = threading.Event(), threading.Event()
        self._result: TrainResult | None = None
        self._error: BaseException | None = None

    def go(self, wire: Mapping[str, Any]) -> Answer:
        """Run the segment. Modal's own signals pass through; everything else becomes an answer."""
        try:
            request = TrainRequest.from_wire(wire)
            gc.collect()  # a run before this one may have files of the volume open
            unless_open(self._volume.reload)
            request = on_its_day(request, self._root)
            context = self._context(request)
        except Exception as error:  # noqa: BLE001 - the wire carries words, never an exception of the user's
            return Answer(error=in_words(error))
        self._begun.set()
        threading.Thread(target=self._work, args=(request.config, context), name="train", daemon=True).start()
        try:
            while not self._ended.wait(_LOOK_EVERY_S):
                pass
        except KeyboardInterrupt:
            raise  # The container is taken away: the exit hook comes next, and saves.
        except BaseException:
            # The call was cancelled: nobody wants a checkpoint of it any more, and the container may live on.
            self._cancelled.set()
            self._ended.wait(SAVE_WITHIN_S)
            raise
        return self._answer(request)

    def save_and_end(self) -> None:
        """Ask the engine for a checkpoint at the step it is at, and wait for it as long as the grace allows."""
        if self._begun.is_set() and not self._ended.is_set():
            self._stop.set()
            self._ended.wait(SAVE_WITHIN_S)

    def _work(self, config: TrainConfig, context: TrainContext) -> None:
        try:
            self._result = self._engine.train(config, context)
        except BaseException as error:  # noqa: BLE001 - it is answered by the thread that waits
            self._error = error
        finally:
            self._ended.set()

    def _context(self, request: TrainRequest) -> TrainContext:
        folder = self._root / request.folder
        rows = RowFile(self._root / rows_path(request.folder, self._attempt), clock=time.time)
        began = time.monotonic()

        def on_event(event: TrainEvent) -> None:
            if rows.note(event):
                print(event_line(event), flush=True)  # noqa: T201 - what a container prints is its log on Modal
            self._on_percent(100 * event.step / event.steps)
            if event.kind in (EventKind.STARTED, EventKind.STOPPED, EventKind.WARNING):
                rows.write()

        def on_checkpoint(_: Path) -> None:
            rows.write()
            unless_open(self._volume.commit)

        def stop_requested() -> bool:
            segment_over = request.stop_after_s is not None and time.monotonic() - began >= request.stop_after_s
            return segment_over or self._stop.is_set()

        return TrainContext(
            folder=folder,
            cache=self._cache,
            data=data_of(request, self._data_root),
            data_roots=(self._data_root, self._cache, self._root),
            classifier=self._root / request.classifier if request.classifier else None,
            job=request.job,
            on_event=on_event,
            on_checkpoint=on_checkpoint,
            is_cancelled=self._cancelled.is_set,
            stop_requested=stop_requested,
            threads=request.threads,
            git_revision=request.git_revision,
        )

    def _answer(self, request: TrainRequest) -> Answer:
        with suppress(Exception):  # what the engine kept is kept by the commit after each checkpoint; this is for rows
            self._volume.commit()
        if self._result is None:
            return Answer(error=in_words(self._error or RuntimeError("the engine ended without a word")))
        return Answer(
            value=segment_value(self._result, request.folder),
            peak_gpu_memory_bytes=self._result.peak_gpu_memory_bytes,
        )


def segment_value(result: TrainResult, folder: str) -> dict[str, Any]:
    """What a segment answers: the engine's result, with checkpoints named by their place on the volume."""

    def on_volume(path: Path | None) -> str | None:
        return None if path is None else f"{folder}/{path.name}"

    return {
        **result.to_wire(),
        "checkpoint": on_volume(result.checkpoint),
        "best": on_volume(result.best),
        "resumed_from": on_volume(result.resumed_from),
    }


def on_its_day(request: TrainRequest, root: Path) -> TrainRequest:
    """The request, in the folder of the day on which the run was begun: the newest one that holds checkpoints.

    Args:
        request: where `any_day` is not set, it stays as it is; so it does where no day knows the run.
        root: the volume of checkpoints.
    """
    if not request.any_day:
        return request
    recipe, asked, *name = PurePosixPath(request.folder).parts
    known = [day for day in (root / recipe).glob("????-??-??") if day.joinpath(*name).is_dir()]
    newest = max(known, key=lambda day: (bool(step_folders(day.joinpath(*name))), day.name), default=None)
    if newest is None or newest.name == asked:
        return request
    folder = PurePosixPath(recipe, newest.name, *name).as_posix()
    print(f"trainer: goes on in {folder}", flush=True)  # noqa: T201 - what a container prints is its log on Modal
    return dataclasses.replace(request, folder=folder)


def data_of(request: TrainRequest, data_root: Path) -> Path | None:
    """Where the dataset lies in this container; None: the engine makes or finds it by its name.

    Raises:
        DatasetProblem: it is in S3, and no bucket is mounted here.
    """
    if request.data is None:
        if is_in_s3(request.config.dataset):
            raise DatasetProblem("unresolved", request.config.dataset, cause="no place in a mounted bucket was named")
        return None
    if not data_root.is_dir():
        raise DatasetProblem("missing", request.config.dataset, name=str(data_root), cause="no bucket is mounted")
    return data_root / request.data


def unless_open(operation: Callable[[], None]) -> None:
    """Commit or reload a volume of which the run holds a file open (TensorBoard's).

    Modal's SDK reloads after each commit, and a reload with open files is refused. The commit stands all the same, and
    a training container needs nothing that others have committed meanwhile.
    """
    try:
        operation()
    except RuntimeError as error:
        if _OPEN_FILES not in str(error):
            raise


def keep_cache(volume: Committed) -> None:
    """Commit the prepared datasets. While one is still open somewhere this waits for the container's end."""
    gc.collect()  # closes what the run had mapped into memory
    with suppress(Exception):  # Modal commits at the container's end in any case
        volume.commit()


def warm_up() -> None:
    """Have CUDA make its context and load its kernels now. Nothing where there is no GPU."""
    import torch  # noqa: PLC0415 - only a container has to have it

    if torch.cuda.is_available():
        images = torch.randn(1, 3, 32, 32, device="cuda")
        torch.nn.Conv2d(3, 16, 3, device="cuda")(images)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def smoke(config: Mapping[str, Any] | None) -> Answer:
    """Imports, the device, and two steps: of one config, or of each recipe's own model. Needs no data."""
    from engines.train.smoke import smoke as try_out  # noqa: PLC0415 - imports torch, which only a container has to have

    try:
        configs = [TrainConfig.from_wire(config)] if config else [TrainConfig(recipe=recipe) for recipe in RECIPES]
        reports = [try_out(one) for one in configs]
    except Exception as error:  # noqa: BLE001 - the wire carries words, never an exception of the user's
        return Answer(error=in_words(error))
    peaks = [report.peak_gpu_memory_bytes for report in reports if report.peak_gpu_memory_bytes is not None]
    return Answer(
        value={one.recipe: report.to_wire() for one, report in zip(configs, reports, strict=True)},
        peak_gpu_memory_bytes=max(peaks, default=None),
    )


def evaluate(wire: Mapping[str, Any], *, root: Path, cache: Path, data_root: Path) -> Answer:
    """Evaluate the best checkpoint in the folder of a request, on the request's dataset."""
    from engines.train.evaluate import evaluate as measure  # noqa: PLC0415 - imports torch

    try:
        request = on_its_day(TrainRequest.from_wire(wire), root)
        metrics = measure(
            root / request.folder,
            cache=cache,
            dataset=request.config.dataset,
            data=data_of(request, data_root),
            classifier=root / request.classifier if request.classifier else None,
            eval_examples=request.config.eval_examples,
        )
    except Exception as error:  # noqa: BLE001 - the wire carries words, never an exception of the user's
        return Answer(error=in_words(error))
    return Answer(value={"folder": request.folder, "metrics": dict(metrics)})
