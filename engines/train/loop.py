"""The loop: steps, events, evaluations, checkpoints, and the ways a run ends. The first rank speaks for all."""

from __future__ import annotations

import datetime as dt
import enum
import math
import time
from collections.abc import Generator, Mapping
from contextlib import closing

import torch

from engines.memory import peak_memory_bytes
from engines.train import checkpoints, device
from engines.train.checkpoints import Checkpoint
from engines.train.contract import EventKind, TrainConfig, TrainContext, TrainEvent, TrainOutcome, TrainResult
from engines.train.data.batches import Batch, StepBatches, loader, worker_count
from engines.train.data.prepared import PreparedSet
from engines.train.errors import CheckpointProblem, OutOfMemory, TrainCancelled, TrainingDiverged, VolumeFull
from engines.train.journal import Journal
from engines.train.learner import Learner
from engines.train.pace import Pace
from engines.train.ranks import Ranks
from engines.train.recipes.recipe import Recipe
from engines.train.resume import find_resumable
from engines.train.schedule import learning_rate


class _Order(enum.IntEnum):
    """What the caller wants at a step; of two, the larger counts."""

    GO_ON = 0
    STOP = 1
    CANCEL = 2


class Loop:
    """One run, from the newest checkpoint to its end.

    Args:
        config: The run.
        context: Where it lives and whom it talks to.
        prepared: The data.
        recipe: What is learnt.
        where: The device.
        ranks: Who shares the batch.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: TrainContext,
        *,
        prepared: PreparedSet,
        recipe: Recipe,
        where: torch.device,
        ranks: Ranks,
    ) -> None:
        self._config, self._context, self._prepared, self._recipe = config, context, prepared, recipe
        self._device, self._ranks = where, ranks
        self._begun_s, self._begun_cpu_s = time.perf_counter(), time.process_time()
        arithmetic = device.arithmetic_type(config.precision, where)
        self._learner = Learner(recipe, config, device=where, arithmetic=arithmetic, ranks=ranks)
        self._newest: Checkpoint | None = None
        self._resumed_from: Checkpoint | None = None
        self._step = 0
        self._steps_run = 0
        self._metrics: Mapping[str, float] = {}
        self._journal: Journal | None = None
        self._pace = Pace()
        self._training_s = 0.0

    def run(self) -> TrainResult:
        """Trains to the end; see `TrainEngine.train`."""
        try:
            self._resume()
            for note in self._prepared.notes:
                self._warn(note)
            if self._step >= self._config.steps and not self._owes_a_score():
                return self._result(TrainOutcome.FINISHED)
            self._check_space()
            self._open_journal()
            if self._owes_a_score():
                self._evaluate()
                self._write(evaluated=True)
            return self._result(self._learn())
        except (MemoryError, RuntimeError) as error:
            memory = device.ran_out_of(error)
            if memory is None:
                raise
            raise OutOfMemory(memory, self._step, self._last_good()) from error
        finally:
            if self._journal:
                self._journal.close()

    def _resume(self) -> None:
        found = None
        if self._ranks.is_first:
            checkpoints.sweep_unfinished(self._context.folder)
            found = find_resumable(self._config, self._context, self._prepared.classes, self._warn)
        # All ranks continue from what the first one found; -1: it found nothing.
        step = self._ranks.largest(found.step if found else -1)
        if step >= 0:
            found = found or checkpoints.read(self._context.folder / f"step-{step}")
            self._learner.restore(found.path, found.metadata)
            self._newest = self._resumed_from = found
            self._step = step
            self._metrics = found.metadata["metrics"]
        self._tell(EventKind.STARTED, path=str(found.path) if found else None)

    def _learn(self) -> TrainOutcome:
        with closing(self._batches()) as batches:
            self._pace.begin()
            while self._step < self._config.steps:
                order = self._order()
                if order is _Order.CANCEL:
                    raise TrainCancelled(self._step, self._config.steps)
                if order is _Order.STOP:
                    # Reported before the checkpoint: a reader that stores reports with the checkpoint then has both.
                    self._tell(EventKind.STOPPED)
                    self._save(evaluated=False)
                    return TrainOutcome.PREEMPTED
                self._pace.add(self._learner.learn(self._step, next(batches)), self._config.batch_size)
                self._step += 1
                self._steps_run += 1
                self._after_step()
        return TrainOutcome.FINISHED

    def _batches(self) -> Generator[list[Batch], None, None]:
        ranks = self._ranks
        batches = StepBatches(
            self._prepared.train, self._config, self._recipe.draws, rank=ranks.rank, world=ranks.world
        )
        workers = worker_count(self._context.data_workers, ranks.world)
        pinned = self._device.type == "cuda"
        yield from loader(batches, first=self._step, steps=self._config.steps, workers=workers, pinned=pinned)

    def _order(self) -> _Order:
        order = _Order.GO_ON
        if self._ranks.is_first:
            if self._context.is_cancelled():
                order = _Order.CANCEL
            elif self._context.stop_requested():
                order = _Order.STOP
        return _Order(self._ranks.largest(order))

    def _after_step(self) -> None:
        config = self._config
        last = self._step == config.steps
        saves = last or self._step % config.checkpoint_every_steps == 0
        evaluates = self._is_evaluated()
        if saves or evaluates or self._step % config.log_every_steps == 0:
            self._report()
        if evaluates and self._ranks.is_first:
            self._evaluate()
        if saves:
            self._save(evaluated=evaluates)
        if saves or evaluates:
            self._pace.begin()  # what evaluating and saving took is no training time

    def _report(self) -> None:
        """Tells loss and pace; the one place where the host waits for the GPU, and where a lost cause is noticed."""
        pace = self._pace.read()
        self._training_s += pace.seconds
        loss = self._ranks.mean(pace.loss)
        if not math.isfinite(loss):
            raise TrainingDiverged(self._step, self._last_good())
        self._tell(
            EventKind.PROGRESS,
            loss=loss,
            examples_per_s=pace.examples_per_s,
            learning_rate=learning_rate(self._config, self._step - 1),
            peak_memory_bytes=device.peak_gpu_memory_bytes(self._device) or peak_memory_bytes(),
        )

    def _is_evaluated(self) -> bool:
        """Whether this step is one that gets a score."""
        config = self._config
        every = config.eval_every_steps or config.checkpoint_every_steps
        return self._step == config.steps or (self._step > 0 and self._step % every == 0)

    def _owes_a_score(self) -> bool:
        """Whether the run before this one ended while it evaluated: it saved all the same, without a score."""
        resumed = self._resumed_from
        return self._ranks.is_first and resumed is not None and resumed.score is None and self._is_evaluated()

    def _evaluate(self) -> None:
        try:
            with self._learner.for_evaluation() as model:
                self._metrics = self._recipe.evaluate(model, self._prepared.evaluation)
        except Exception:
            # It may be memory that an evaluation lacks: what was learnt is kept for an attempt that has more.
            self._save(evaluated=False)
            raise
        self._tell(EventKind.EVALUATED, metrics=self._metrics)

    def _save(self, *, evaluated: bool) -> None:
        if self._ranks.is_first and not (self._newest and self._newest.step == self._step):
            self._write(evaluated=evaluated)

    def _write(self, *, evaluated: bool) -> None:
        facts = {
            "kind": self._config.recipe,
            "job": self._context.job,
            "config": self._config.to_wire(),
            "classes": list(self._prepared.classes),
            "metrics": dict(self._metrics) if evaluated else {},
            "score": self._recipe.score(self._metrics) if evaluated else None,
            "git_revision": self._context.git_revision,
            "time": dt.datetime.fromtimestamp(self._context.wall_clock(), dt.UTC).isoformat(timespec="seconds"),
            "torch": torch.__version__,
            **self._learner.facts(),
        }
        self._newest = checkpoints.write(self._context.folder, self._step, self._learner.to_files(), facts)
        self._tell(EventKind.CHECKPOINT, path=str(self._newest.path), metrics=facts["metrics"])
        self._context.on_checkpoint(self._newest.path)
        checkpoints.prune(self._context.folder)

    def _check_space(self) -> None:
        """Refuses before the first step what could not be saved after the last."""
        needed_bytes, free_bytes = self._learner.state_bytes(), checkpoints.free_bytes(self._context.folder)
        if self._ranks.is_first and free_bytes < needed_bytes:
            raise VolumeFull(str(self._context.folder), needed_bytes, free_bytes, self._last_good())

    def _open_journal(self) -> None:
        if self._ranks.is_first:
            try:
                self._journal = Journal(self._context.folder, self._step)
            except OSError as error:
                raise checkpoints.write_error(error, self._context.folder, 0, None) from error

    def _result(self, outcome: TrainOutcome) -> TrainResult:
        self._ranks.wait()  # no rank says "done" before the last checkpoint is whole
        if self._newest is None:  # another rank has written it
            self._newest = checkpoints.read(self._context.folder / f"step-{self._step}")
        examples = self._steps_run * self._config.batch_size
        return TrainResult(
            outcome=outcome,
            checkpoint=self._newest.path,
            step=self._step,
            steps_run=self._steps_run,
            metrics=dict(self._metrics),
            best=checkpoints.best_of(self._context.folder),
            seconds=time.perf_counter() - self._begun_s,
            cpu_s=time.process_time() - self._begun_cpu_s,
            examples_per_s=examples / self._training_s if self._training_s else 0.0,
            peak_memory_bytes=peak_memory_bytes(),
            peak_gpu_memory_bytes=device.peak_gpu_memory_bytes(self._device),
            resumed_from=self._resumed_from.path if self._resumed_from else None,
        )

    def _last_good(self) -> str | None:
        return str(self._newest.path) if self._newest else None

    def _warn(self, problem: CheckpointProblem | str) -> None:
        self._tell(EventKind.WARNING, message=str(problem))

    def _tell(self, kind: EventKind, **facts: object) -> None:
        if not self._ranks.is_first:
            return
        event = TrainEvent(kind=kind, step=self._step, steps=self._config.steps, **facts)  # type: ignore[arg-type]  # fields by name
        self._context.on_event(event)
        numbers = {"loss": event.loss, "learning_rate": event.learning_rate, "examples_per_s": event.examples_per_s}
        known = {name: number for name, number in numbers.items() if number is not None}
        if self._journal and kind in (EventKind.PROGRESS, EventKind.EVALUATED):
            try:
                self._journal.add(event.step, known | dict(event.metrics))
            except OSError as error:
                self._journal.close()
                self._journal = None  # the checkpoints matter; the curve does not
                self._warn(f"TensorBoard files are no longer written: {error}")
