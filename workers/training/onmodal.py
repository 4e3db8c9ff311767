"""One training attempt on Modal, seen from the control plane: what is asked for, its checkpoints' mirror, its end.

The container writes to a volume and knows neither our Redis nor our S3. Here its checkpoints are mirrored from the
volume to S3, while it runs and at its end, so that the job can go on anywhere; and before an attempt begins the volume
gets what the job has reached elsewhere.
"""

import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from engines.train.checkpoints import read
from engines.train.contract import TrainOutcome
from engines.train.errors import CheckpointProblem
from infra.artifacts import Stored
from ledger import LedgerError
from ledger.models import JobRecord, speed_key
from modal_apps.gpus import parse as parse_gpu
from modal_apps.training_request import TrainRequest, data_on_modal, folder_on_volume
from workers.resources import Resources
from workers.training.configs import created_on, train_config, train_job
from workers.training.datasets import check_bucket
from workers.training.inhouse import fetch_classifier
from workers.training.store import CheckpointStore, StoredCheckpoint
from workers.training.volume import CheckpointVolume

log = structlog.get_logger(__name__)

#: While a spawn is being prepared its claim is renewed so often, for so long, seconds.
_HOLD_EVERY_S, _HOLD_FOR_S = 5.0, 20.0
#: A segment that is over, and what a job is told then.
SEGMENT_OVER = "the segment is over; the next one resumes from its last checkpoint"


class SpawnLost(Exception):
    """The attempt is not ours any more."""


class TrainOnModal:
    """What spawners and followers do differently for train jobs. Its methods block."""

    def __init__(self, resources: Resources, volume: CheckpointVolume | None = None) -> None:
        self._resources = resources
        self._settings = resources.settings
        self._ledger = resources.ledger
        self._store = CheckpointStore(resources.artifacts)
        self._volume = volume or CheckpointVolume(environment=resources.settings.modal.environment)

    def prepare(self, record: JobRecord) -> TrainRequest:
        """What a record's attempt asks for; the volume has what it needs when this returns.

        Raises:
            TrainError: the engine does not take the config, or its data or classifier is not there.
            ArtifactStoreUnavailable, VolumeAway: S3 or Modal did not answer.
            SpawnLost: the attempt is not ours any more.
        """
        job = train_job(record)
        config = train_config(job, gpus=parse_gpu(record.gpu).count if record.gpu else None)
        folder = folder_on_volume(config, created_on(record), record.id)
        check_bucket(self._settings, config.dataset)
        data = data_on_modal(config.dataset, self._settings.train.modal_data_bucket)
        with self._held(record):
            self._seed(record, folder)
            classifier = self._seed_classifier(job.classifier) if job.classifier else None
        return TrainRequest(
            config=config,
            job=record.id,
            folder=folder,
            data=data,
            classifier=classifier,
            stop_after_s=self._settings.train.segment_s,
            threads=self._settings.train.threads,
            git_revision=self._settings.train.git_revision,
        )

    def mirror(self, record: JobRecord) -> StoredCheckpoint | None:
        """Bring what the newest attempt has told and its newest checkpoint home; what is there already is not moved.

        Returns:
            The newest checkpoint that was mirrored now; None: there was nothing new.

        Raises:
            ArtifactStoreUnavailable, VolumeAway: S3 or Modal did not answer.
        """
        config = train_config(train_job(record), gpus=parse_gpu(record.gpu).count if record.gpu else None)
        folder = folder_on_volume(config, created_on(record), record.id)
        self._tell(record, folder)
        newest = max((one.step for one in self._store.whole(record.id)), default=-1)
        for step in self._volume.steps(folder):
            if step <= newest:
                return None
            stored = self._bring(record, folder, step)
            if stored is not None:
                self._store.prune(record.id)
                return stored
        return None

    def finish(self, record: JobRecord, value: Mapping[str, Any]) -> Stored | None:
        """The result of an attempt that answered: its last checkpoint, in S3. None: the run goes on in a next segment.

        Raises:
            ArtifactStoreUnavailable, VolumeAway: S3 or Modal did not answer.
            CheckpointProblem: what lies on the volume is torn.
            KeyError: a part of the answer is missing.
        """
        folder, _, name = str(value["checkpoint"]).rpartition("/")
        step = int(name.rpartition("-")[2])
        self._tell(record, folder)
        if float(value["examples_per_s"]) > 0:
            key = speed_key(train_job(record).recipe, record.gpu or "")
            self._note(record, [], speed=(key, 1 / float(value["examples_per_s"])))
        stored = StoredCheckpoint(step, record.attempt, record.id)
        if stored not in self._store.whole(record.id):
            with tempfile.TemporaryDirectory(prefix="overspill-mirror-") as scratch:
                path = self._volume.download(folder, step, Path(scratch))
                stored = self._store.put(record.id, record.attempt, read(path).path)
        if value["outcome"] != TrainOutcome.FINISHED:
            return None
        self._store.prune(record.id)
        return Stored(self._store.artifact(stored))

    def _tell(self, record: JobRecord, folder: str) -> None:
        rows = self._volume.rows(folder, record.attempt)
        self._note(record, rows)

    def _note(self, record: JobRecord, rows: list[dict[str, Any]], speed: tuple[str, float] | None = None) -> None:
        """Rows are for whoever watches: a ledger that is away delays them, and nothing else."""
        try:
            self._ledger.attempts.note_training(record.id, record.attempt, rows, speed=speed)
        except LedgerError as error:
            log.warning("training.not_told", error=str(error))

    def _bring(self, record: JobRecord, folder: str, step: int) -> StoredCheckpoint | None:
        with tempfile.TemporaryDirectory(prefix="overspill-mirror-") as scratch:
            path = self._volume.download(folder, step, Path(scratch))
            try:
                read(path)
            except CheckpointProblem as problem:
                # It is being written or removed just now; an older one, or the next look, will do.
                log.info("checkpoint.not_whole_yet", error=str(problem))
                return None
            stored = self._store.put(record.id, record.attempt, path)
        log.info("checkpoint.mirrored", step=step)
        return stored

    def _seed(self, record: JobRecord, folder: str) -> None:
        """Have the volume know the newest checkpoint of any attempt."""
        there = max(self._volume.steps(folder), default=-1)
        with tempfile.TemporaryDirectory(prefix="overspill-seed-") as scratch:
            fetched = self._store.fetch_newest(record.id, Path(scratch), above_step=there)
            if fetched is not None:
                self._volume.upload(fetched.path, folder)
                log.info("checkpoint.taken_to_modal", step=fetched.step)

    def _seed_classifier(self, job_id: str) -> str:
        with tempfile.TemporaryDirectory(prefix="overspill-seed-") as scratch:
            path = fetch_classifier(self._store, job_id, Path(scratch))
            folder = f"classifiers/{job_id}"
            if int(path.name.rpartition("-")[2]) not in self._volume.steps(folder):
                self._volume.upload(path, folder)
        return f"{folder}/{path.name}"

    @contextmanager
    def _held(self, record: JobRecord) -> Iterator[None]:
        """Keep the claim on the attempt while files travel."""
        over, lost = threading.Event(), threading.Event()

        def hold() -> None:
            while True:
                try:
                    if not self._ledger.modal_calls.hold_spawn(record.id, record.attempt, lease_s=_HOLD_FOR_S):
                        lost.set()
                        return
                except LedgerError as error:
                    log.warning("spawn.not_held", error=str(error))
                if over.wait(_HOLD_EVERY_S):
                    return

        holder = threading.Thread(target=hold, name=f"hold-{record.id}", daemon=True)
        holder.start()
        try:
            yield
        finally:
            over.set()
            holder.join(_HOLD_EVERY_S)
        if lost.is_set():
            raise SpawnLost(record.id)
