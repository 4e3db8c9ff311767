"""In-house training on real parts: checkpoints lie in S3, and whoever comes next goes on from there."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="train jobs need torch: `make setup-tests`")

from ledger import Kind, Ledger, State, TrainJob
from ledger.decisions import Limits, Receipt, RunInhouse
from ledger.models import JobRecord
from ledger.outcomes import Placed
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import RecordingNudger, settings_for
from workers.artifacts import ArtifactStore
from workers.inhouse import run_next
from workers.resources import Resources
from workers.training.store import CheckpointStore

TINY: dict[str, Any] = {
    "recipe": "image_classifier", "steps": 12, "batch_size": 16, "checkpoint_every_steps": 4, "width": 4, "depth": 1,
    "eval_examples": 16, "warmup_steps": 2, "log_every_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared `shapes`, made once for this module."""
    return tmp_path_factory.mktemp("train")


@pytest.fixture
def trainer(ledger: Ledger, s3: S3Service, cache: Path) -> Iterator[Resources]:
    values = settings_for(ledger, s3, train_engine="torch", train_folder=str(cache), train_threads=1)
    nudger = RecordingNudger()
    yield Resources(values, ledger, ArtifactStore(values), nudger)  # type: ignore[arg-type]  # the port's one method


def _place(ledger: Ledger, **fields: Any) -> str:
    job_id = ledger.desk.submit(TrainJob.model_validate({**TINY, **fields}), source="client").job_id
    (claimed,) = ledger.placing.claim_queued(Kind.TRAIN, limit=1, lease_s=10)
    placed = ledger.placing.place(
        claimed, RunInhouse(), receipt=Receipt("test", "test", "test"), limits=Limits(10**12, 100)
    )
    assert isinstance(placed, Placed)
    return job_id


def _weights(open_ends: Resources, record: JobRecord, folder: Path) -> bytes:
    store = CheckpointStore(open_ends.artifacts)
    checkpoint = store.fetch_newest(record.id, folder)
    assert checkpoint is not None
    return b"".join((checkpoint.path / name).read_bytes() for name in sorted(checkpoint.metadata["files"]))


def test_a_run_leaves_its_last_checkpoint_in_s3_and_tells_how_it_went(trainer: Resources, ledger: Ledger) -> None:
    # Given a tiny job, when a GPU worker takes it
    job_id = _place(ledger)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    # Then its record points to the last checkpoint
    record = ledger.desk.get(job_id)
    assert record.state is State.COMPLETED
    assert record.artifact is not None
    assert record.artifact.key == f"train/{job_id}/1/step-12/metadata.json"
    facts = json.loads(
        trainer.artifacts.client.get_object(Bucket=record.artifact.bucket, Key=record.artifact.key)["Body"].read()
    )
    assert facts["step"] == 12
    # And the ledger has its loss, its checkpoints and its speed
    rows = ledger.training.rows(job_id)
    assert [row["step"] for row in rows if row["kind"] == "checkpoint"] == [4, 8, 12]
    assert [row["n"] for row in rows] == sorted({row["n"] for row in rows})
    assert any(row["kind"] == "progress" and row["loss"] > 0 for row in rows)
    assert ledger.training.speeds()["image_classifier@inhouse"] > 0
    assert '"accuracy"' in ledger.desk.attempt(job_id, 1)["measurements"]
