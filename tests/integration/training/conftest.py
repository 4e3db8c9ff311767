"""The whole stack as processes, with training on: real Redis, workers, Modal SDK, S3, and torch on the CPU."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="train jobs need torch: `make setup-tests`")

from infra.artifacts import ArtifactStore
from infra.nudging import CeleryNudger
from infra.settings import Settings
from ledger import Kind, Ledger, TrainJob
from ledger.models import JobRecord
from ledger.nudges import decide
from overspill.dev.stack import Stack
from tests.support.settings import settings_from
from tests.support.stack import REPOSITORY, running_stack
from tests.support.waiting import until

#: Short, so that a lost lease is found within a test's patience.
LEASE_S = 3.0
#: A run that takes some seconds on a busy machine, with a checkpoint every second or so.
RUN: dict[str, Any] = {
    "recipe": "image_classifier", "steps": 100, "batch_size": 32, "checkpoint_every_steps": 10, "width": 8, "depth": 2,
    "eval_every_steps": 100, "eval_examples": 32, "warmup_steps": 5, "log_every_steps": 2, "seed": 3,
}  # fmt: skip
SETTINGS = {
    "OVERSPILL_LEASE_S": str(LEASE_S),
    "OVERSPILL_NUDGE_AGAIN_S": "2",
    "OVERSPILL_SWEEP_EVERY_S": "0.5",
    "OVERSPILL_POLL_FIRST_S": "0.2",
    "OVERSPILL_POLL_MAX_S": "0.5",
    "OVERSPILL_POLL_HINTED_S": "0.5",
    "OVERSPILL_TRAIN_MIRROR_EVERY_S": "0.3",
    "OVERSPILL_TRAIN_STARTUP_S": "0",
    # Sums of floats depend on how many threads share them.
    "OVERSPILL_TRAIN_THREADS": "1",
    "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": "2",
    "OVERSPILL_LOG_FORMAT": "json",
}


@dataclass
class Trainer:
    """A running stack that trains, and the handles that tests need."""

    stack: Stack
    settings: Settings
    ledger: Ledger
    artifacts: ArtifactStore

    def submit(self, **fields: Any) -> str:
        """A train job, and its nudge."""
        job = TrainJob.model_validate({**RUN, **fields})
        job_id = self.ledger.jobs.submit(job, source="client").job_id
        nudger = CeleryNudger(self.settings)
        nudger.send(decide(Kind.TRAIN))
        nudger.close()
        return job_id

    def when(self, job_id: str, seen: Callable[[JobRecord], bool], *, timeout_s: float = 60) -> JobRecord:
        """Wait until a job looks so."""
        return until(lambda: self.ledger.jobs.get(job_id), seen, timeout_s=timeout_s)

    def ended(self, job_id: str, *, timeout_s: float = 150) -> JobRecord:
        """Wait for a job's end."""
        return self.when(job_id, lambda record: record.is_terminal, timeout_s=timeout_s)

    def checkpoint_told(self, job_id: str, *, timeout_s: float = 60) -> None:
        """Wait until a run has told of a checkpoint."""
        until(
            lambda: self.ledger.attempts.training_rows(job_id),
            lambda rows: any(row["kind"] == "checkpoint" for row in rows),
            timeout_s=timeout_s,
        )

    def think_slow(self, speed: str) -> None:
        """Have the ledger believe that runs are slow at a place, so that what is left of one there costs much."""
        self.ledger.client.hset(f"{self.ledger.prefix}:train:speeds", speed, "100")

    def weights(self, record: JobRecord) -> dict[str, str]:
        """Digests of the files of a job's final checkpoint, without what tells of time."""
        assert record.artifact is not None, record
        body = self.artifacts.client.get_object(Bucket=record.artifact.bucket, Key=record.artifact.key)["Body"].read()
        return {name: digest for name, digest in json.loads(body)["files"].items() if name.endswith(".safetensors")}


@pytest.fixture(scope="session")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    folder = tmp_path_factory.mktemp("stack")
    with running_stack(folder, settings=SETTINGS, train=True) as stack:
        values = settings_from(stack.process_environment)
        with Ledger(values.ledger) as ledger:
            yield Trainer(stack, values, ledger, ArtifactStore(values))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the weights of `RUN` when nothing strikes it."""
    folder: Path = tmp_path_factory.mktemp("undisturbed")
    (folder / "config.json").write_text(json.dumps(RUN))
    command = [
        sys.executable, "-m", "engines.train", "--config", str(folder / "config.json"), "--folder", str(folder / "job"),
        "--cache", str(folder / "cache"), "--threads", "1",
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=100, cwd=REPOSITORY, capture_output=True)
    facts = json.loads((folder / "job" / f"step-{RUN['steps']}" / "metadata.json").read_bytes())
    return {name: digest for name, digest in facts["files"].items() if name.endswith(".safetensors")}
