"""One in-house attempt: from the newest checkpoint of the job to its end, under a lease, mirrored to S3 on the way."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from engines.train.checkpoints import job_folder, newest_whole
from engines.train.contract import (
    IMAGE_CLASSIFIER,
    EventKind,
    TrainConfig,
    TrainContext,
    TrainEngine,
    TrainEvent,
    TrainOutcome,
    TrainResult,
)
from engines.train.errors import CheckpointProblem, InvalidTrainConfig
from infra.artifacts import ArtifactStoreUnavailable
from infra.retrying import retry_while_unavailable
from ledger import LedgerError
from ledger.models import Artifact, JobRecord, TrainJob, speed_key
from modal_apps.training_rows import Row, Thinner
from workers.attempt.drain import Drain
from workers.attempt.heartbeat import Heartbeat
from workers.requests import NoEngine, check_used_model
from workers.resources import Resources
from workers.shutdown import stop_request
from workers.training.configs import created_on, engine_is_on, train_config, train_job
from workers.training.datasets import data_roots, resolve_dataset
from workers.training.scratch import touch
from workers.training.store import CheckpointStore

log = structlog.get_logger(__name__)
T = TypeVar("T")

INHOUSE = "inhouse"


@dataclass(frozen=True)
class Trained:
    """All steps are done; the last checkpoint lies in S3."""

    artifact: Artifact
    measurements: dict[str, object]
    seconds: float


@dataclass(frozen=True)
class Interrupted:
    """The worker was asked to stop: the run has saved at `step`, and others go on from there."""

    step: int


def train_inhouse(resources: Resources, record: JobRecord, heartbeat: Heartbeat) -> Trained | Interrupted:
    """Train a job to its end, or until this worker is asked to stop.

    Raises:
        NoEngine: this deployment does not train.
        ModelNotFound: the tenant has no such classifier.
        TrainError: the engine's own, of many types; `TrainCancelled`: the attempt is not ours any more.
        ArtifactStoreUnavailable: S3 stayed away for longer than we are patient.
    """
    if not engine_is_on(resources.settings):
        raise NoEngine(str(record.kind))
    job = train_job(record)
    check_used_model(resources.ledger, record)
    config = train_config(job)
    with Drain(resources, record, stop_request) as drain:
        run = _Run(resources, record, heartbeat, config, drain)
        try:
            run.bring_newest()
            from engines.train.engine import TorchTrainEngine  # noqa: PLC0415 - imports torch: only a GPU worker needs it

            engine: TrainEngine = TorchTrainEngine()
            result = engine.train(config, run.context(job))
            if result.outcome is not TrainOutcome.FINISHED:
                return run.leave(result)
            return run.finish(result)
        finally:
            run.clear()


class _Run:
    """One attempt at work."""

    def __init__(
        self, resources: Resources, record: JobRecord, heartbeat: Heartbeat, config: TrainConfig, drain: Drain
    ) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._record = record
        self._heartbeat = heartbeat
        self._config = config
        self._drain = drain
        self._store = CheckpointStore(resources.artifacts)
        self._began = time.monotonic()
        self._thinner = Thinner(clock=time.time)
        self._untold: list[Row] = []
        root = self._settings.train.folder
        self._cache = root / "cache"
        # A folder for each attempt: one that lost its lease and does not know it yet writes where nobody reads.
        self.folder = job_folder(
            root / "checkpoints", config.recipe, created_on(record), f"{record.id}.{record.attempt}"
        )

    def bring_newest(self) -> None:
        """Have the newest checkpoint of any attempt in the folder, be it from here, another host or Modal."""
        for old in self.folder.parent.glob(f"{self._record.id}.*"):
            shutil.rmtree(old, ignore_errors=True)
        fetched = self._from_store(lambda: self._store.fetch_newest(self._record.id, self.folder))
        log.info("training.begins", from_step=fetched.step if fetched else 0)

    def context(self, job: TrainJob) -> TrainContext:
        """Where the run lives and whom it tells."""
        return TrainContext(
            folder=self.folder,
            cache=self._cache,
            data=self._data(),
            data_roots=data_roots(self._settings),
            classifier=self._classifier(job.classifier) if job.classifier else None,
            job=self._record.id,
            on_event=self._on_event,
            on_checkpoint=self._on_checkpoint,
            is_cancelled=self._is_lost,
            stop_requested=self._drain.is_asked,
            device=self._settings.train.device,
            threads=self._settings.train.threads,
            git_revision=self._settings.train.git_revision,
        )

    def leave(self, result: TrainResult) -> Interrupted:
        """Stopped on request, with a checkpoint that is in S3 (`on_checkpoint`)."""
        self._tell([])
        return Interrupted(result.step)

    def finish(self, result: TrainResult) -> Trained:
        """Have the last checkpoint in S3 for certain."""
        stored = self._from_store(lambda: self._store.put(self._record.id, self._record.attempt, result.checkpoint))
        artifact = self._from_store(lambda: self._store.artifact(stored))
        if result.examples_per_s > 0:
            self._tell([], speed=(speed_key(self._config.recipe, INHOUSE), 1 / result.examples_per_s))
        self._tell([])
        measurements = {name: value for name, value in result.to_wire().items() if name not in _PLACES}
        return Trained(artifact, {**measurements, "metrics": dict(result.metrics)}, time.monotonic() - self._began)

    def clear(self) -> None:
        """However it ended: its curve goes to S3 too, and what lies here is of no more use.

        No attempt reads another's folder, and each checkpoint was put into S3 before training went on.
        """
        if not self._is_lost():
            self._store.put_journal(self._record.id, self._record.attempt, self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _data(self) -> Path | None:
        dataset = self._config.dataset
        return self._from_store(
            lambda: resolve_dataset(self._settings, self._resources.artifacts, dataset, self._cache)
        )

    def _classifier(self, job_id: str) -> Path:
        return self._from_store(lambda: fetch_classifier(self._store, job_id, self._cache))

    def _on_event(self, event: TrainEvent) -> None:
        if event.kind is EventKind.STARTED:
            self._heartbeat.note_start()  # the first step may be compiled
        else:
            self._heartbeat.note_activity(event.step / event.steps)
        row = self._thinner.row(event)
        if row is None:
            return
        if event.kind is EventKind.CHECKPOINT:
            self._untold.append(row)  # told when it is in S3: until then nobody can go on from it
        else:
            self._tell([row])

    def _on_checkpoint(self, folder: Path) -> None:
        """Mirror it before training goes on: what is not in S3 is lost with this host."""
        stored = self._from_store(lambda: self._store.put(self._record.id, self._record.attempt, folder))
        self._store.prune(self._record.id)
        self._tell([])
        log.info("checkpoint.mirrored", step=stored.step)

    def _tell(self, rows: list[Row], speed: tuple[str, float] | None = None) -> None:
        """Rows are for whoever watches: a ledger that is away delays them, and nothing else."""
        self._untold += rows
        if not self._untold and speed is None:
            return
        try:
            attempts = self._resources.ledger.attempts
            attempts.note_training(self._record.id, self._record.attempt, self._untold, speed=speed)
            self._untold = []
        except LedgerError as error:
            log.warning("training.not_told", error=str(error))

    def _is_lost(self) -> bool:
        """Whether the attempt is not ours any more."""
        return self._heartbeat.is_lost() or self._drain.has_requeued()

    def _from_store(self, operation: Callable[[], T]) -> T:
        with self._heartbeat.paused():  # S3 has its own timeouts, and our patience with it is bounded
            return retry_while_unavailable(
                operation,
                for_s=self._settings.attempts.delivery_patience_s,
                away=ArtifactStoreUnavailable,
                give_up=self._is_lost,
            )


def fetch_classifier(store: CheckpointStore, job_id: str, cache: Path) -> Path:
    """The best checkpoint of a classifier's job, on this host.

    Raises:
        InvalidTrainConfig: the job has left no checkpoint of a classifier.
        ArtifactStoreUnavailable: S3 did not answer.
    """
    best = store.best(job_id)
    if best is None:
        raise InvalidTrainConfig("classifier", job_id, "a job that has left checkpoints")
    folder = cache / "classifiers" / f"{job_id}-{best.attempt}"
    touch(folder)
    try:
        found = newest_whole(folder, lambda _: None) or store.fetch(best, folder)
    except CheckpointProblem as problem:
        raise InvalidTrainConfig("classifier", job_id, f"a whole checkpoint ({problem})") from problem
    recipe = dict(found.metadata.get("config", {})).get("recipe", IMAGE_CLASSIFIER)
    if recipe != IMAGE_CLASSIFIER:
        raise InvalidTrainConfig("classifier", job_id, f"a job with recipe {IMAGE_CLASSIFIER}, not {recipe}")
    return found.path


#: Of a result, what means something only where it was made.
_PLACES = ("checkpoint", "best", "resumed_from", "outcome", "metrics")
