"""The demo of training: train on both pools, kill a container, resume, and render with the result; and its verdict."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.train.evaluate import evaluate
from infra.artifacts import ArtifactStore
from infra.settings import Settings
from ledger import Ledger
from ledger.models import TRAINED_MODEL, BurstMode, JobRecord, RenderJob, TrainJob
from ledger.states import State
from modal_apps.gpus import parse as parse_gpu
from modal_local.admin_client import AdminClient
from overspill.client import Client
from overspill.dev.stack import Stack
from overspill.terminal import curves
from overspill.terminal.records import how_it_stands
from workers.training.store import CheckpointStore

#: The classifier, on our own GPU (here: a core of this machine).
CLASSIFIER: dict[str, Any] = {
    "recipe": "image_classifier", "steps": 120, "batch_size": 64, "learning_rate": 2e-3, "checkpoint_every_steps": 40,
    "eval_every_steps": 120, "burst": "never", "seed": 1,
}  # fmt: skip
#: The transformer, on Modal (here: a local one), where its container is killed once.
TRANSFORMER: dict[str, Any] = {
    "recipe": "diffusion_transformer", "steps": 1400, "batch_size": 32, "learning_rate": 2e-3,
    "checkpoint_every_steps": 100, "eval_every_steps": 1400, "burst": "always", "seed": 1,
}  # fmt: skip
#: Samples of the transformer that the classifier judges.
SAMPLES = 240
#: What is rendered with the transformer.
PROMPT = "a red circle, a blue square, a green triangle"
SECONDS, SIZE, FPS = 4, "320x180", 12
SETTINGS = {
    "OVERSPILL_LEASE_S": "6",
    "OVERSPILL_POLL_FIRST_S": "0.5",
    "OVERSPILL_POLL_MAX_S": "1",
    "OVERSPILL_POLL_HINTED_S": "1",
    "OVERSPILL_TRAIN_MIRROR_EVERY_S": "1",
    # It is shown on Modal until its end.
    "OVERSPILL_TRAIN_COMES_HOME": "0",
    "OVERSPILL_MODAL_SCALEDOWN_WINDOW_S": "2",
    "OVERSPILL_TRAIN_THREADS": "1",
    "OVERSPILL_LOG_FORMAT": "json",
}
MODAL_FLAGS = ("--max-containers", "1")
#: What must be reached: the issue's own bounds.
ACCURACY, RECOGNISED = 0.97, 0.90
_TIMEOUT_S = 600.0
_LOOK_EVERY_S = 0.5
#: Checkpoints after which the container is killed.
_STRIKE_AFTER = 2


@dataclass(frozen=True)
class TrainVerdict:
    """How it went.

    Attributes:
        accuracy: the classifier's, on the held-out part; None: it did not come so far.
        recognised: share of the transformer's samples that the classifier recognises.
        preemptions: kills that a run has survived.
        video: where the video lies.
        problems: what else is not as it should be, a sentence each.
    """

    accuracy: float | None
    recognised: float | None
    preemptions: int
    video: Path | None
    problems: Sequence[str] = ()

    @property
    def complaints(self) -> list[str]:
        """What is not as it should be."""
        complaints = list(self.problems)
        if self.accuracy is not None and self.accuracy < ACCURACY:
            complaints.append(f"expected the classifier to reach {ACCURACY:.0%}, it reached {self.accuracy:.1%}")
        if self.recognised is not None and self.recognised < RECOGNISED:
            complaints.append(f"expected {RECOGNISED:.0%} of the samples to be recognised, got {self.recognised:.0%}")
        if not self.preemptions:
            complaints.append("expected a run to survive a preemption, none was preempted")
        if None in (self.accuracy, self.recognised, self.video):
            complaints.append("it did not come to its end")
        return complaints

    @property
    def exit_code(self) -> int:
        """0 only if there is nothing to complain about."""
        return 1 if self.complaints else 0

    @property
    def last_line(self) -> str:
        """What a script reads."""
        accuracy = "-" if self.accuracy is None else f"{self.accuracy * 100:.1f} %"
        recognised = "-" if self.recognised is None else f"{self.recognised * 100:.0f} %"
        kills = f"{self.preemptions} preemption{'' if self.preemptions == 1 else 's'} survived"
        return f"demo-train: classifier {accuracy}, samples {recognised} recognised, {kills}, video {self.video or '-'}"


def run(stack: Stack, out_folder: Path, *, say: Callable[[str], None]) -> TrainVerdict:
    """Start the stack, train twice, kill one container, judge the samples, render; the caller stops the stack."""
    began = time.monotonic()
    stack.start()
    os.environ.update(stack.process_environment)  # from here on our own settings speak to this stack
    say(f"ready after {time.monotonic() - began:.1f} s")
    with Ledger() as ledger, Client() as client:
        demo = _Demo(stack, ledger, client, say)
        classifier, transformer = demo.train()
        problems = [
            f"{record.id} is {how_it_stands(record)}"
            for record in (classifier, transformer)
            if record.state is not State.COMPLETED
        ]
        if problems:
            return TrainVerdict(None, None, demo.survived, None, problems)
        accuracy, recognised = demo.judge(classifier, transformer)
        return TrainVerdict(accuracy, recognised, demo.survived, demo.render(transformer, out_folder))


class _Demo:
    """What the steps of the demo share."""

    def __init__(self, stack: Stack, ledger: Ledger, client: Client, say: Callable[[str], None]) -> None:
        self._stack = stack
        self._ledger = ledger
        self._client = client
        self._say = say
        self._artifacts = ArtifactStore(Settings())
        self._store = CheckpointStore(self._artifacts)
        self._killed_at: int | None = None
        self.survived = 0

    def train(self) -> tuple[JobRecord, JobRecord]:
        """Both runs at once: the classifier in-house, the transformer on Modal, where its container is killed."""
        ids = [self._client.submit(TrainJob.model_validate(fields)) for fields in (CLASSIFIER, TRANSFORMER)]
        names = dict(zip(ids, ("classifier, in-house", "transformer, on Modal"), strict=True))
        shown: dict[str, str] = {}
        until = time.monotonic() + _TIMEOUT_S
        while True:
            records = [self._ledger.jobs.get(job_id) for job_id in ids]
            for record in records:
                rows = self._ledger.attempts.training_rows(record.id)
                self._show(names[record.id], record, rows, shown)
            self._kill_once(ids[1])
            if all(record.is_terminal for record in records) or time.monotonic() > until:
                break
            time.sleep(_LOOK_EVERY_S)
        starts = [row["step"] for row in self._ledger.attempts.training_rows(ids[1]) if row["kind"] == "started"]
        went_on = self._killed_at is not None and any(step >= self._killed_at for step in starts)
        self.survived = int(went_on and records[1].state is State.COMPLETED)
        return records[0], records[1]

    def judge(self, classifier: JobRecord, transformer: JobRecord) -> tuple[float, float]:
        """The classifier on the held-out part, and the transformer's samples by the classifier."""
        began = time.monotonic()
        folder = self._stack.folder.path / "judged"
        cache = self._stack.folder.path / "train" / "cache"
        judge = self._store.fetch_newest(classifier.id, folder / "classifier")
        judged = self._store.fetch_newest(transformer.id, folder / "transformer")
        assert judge is not None  # noqa: S101  # both have completed
        assert judged is not None  # noqa: S101
        accuracy = evaluate(judge.path, cache=cache)["accuracy"]
        recognised = evaluate(judged.path, cache=cache, classifier=judge.path, eval_examples=SAMPLES)["recognised"]
        self._say(
            f"classifier {accuracy:.1%}, samples {recognised:.0%} recognised, in {time.monotonic() - began:.1f} s"
        )
        return accuracy, recognised

    def render(self, transformer: JobRecord, out_folder: Path) -> Path | None:
        """A video by the `dit` engine, from the transformer's checkpoint: a render job like any other."""
        width, height = SIZE.split("x")
        job = RenderJob(
            prompt=PROMPT, seconds=SECONDS, size=f"{width}x{height}", fps=FPS, model=f"{TRAINED_MODEL}{transformer.id}",
            burst=BurstMode.NEVER,
        )  # fmt: skip
        began = time.monotonic()
        record = self._client.wait(self._client.submit(job), timeout_s=_TIMEOUT_S)
        if record.artifact is None:
            return None
        body = self._artifacts.client.get_object(Bucket=record.artifact.bucket, Key=record.artifact.key)["Body"].read()
        out_folder.mkdir(parents=True, exist_ok=True)
        path = out_folder / "train.mp4"
        path.write_bytes(body)
        self._say(f"rendered {PROMPT!r} in {time.monotonic() - began:.1f} s: {path}, {len(body)} bytes")
        return path

    def _kill_once(self, job_id: str) -> None:
        """Kill the transformer's container, once, after its second checkpoint."""
        if self._killed_at is not None:
            return
        rows = self._ledger.attempts.training_rows(job_id)
        kept = [int(row["step"]) for row in rows if row["kind"] == "checkpoint"]
        if len(kept) >= _STRIKE_AFTER and kept[-1] < rows[-1]["steps"]:
            gpu = self._ledger.jobs.get(job_id).gpu or ""
            killed = kill_container(self._stack.environment["MODAL_LOCAL_ADMIN_URL"], parse_gpu(gpu).alias)
            if killed is not None:
                self._killed_at = kept[-1]
                self._say(f"killed the transformer's container {killed} after step {kept[-1]}")

    def _show(self, name: str, record: JobRecord, rows: list[dict[str, Any]], shown: dict[str, str]) -> None:
        reported = sum(row["kind"] in ("checkpoint", "started") for row in rows)
        words = f"{record.state}:{reported}"
        if shown.get(record.id) != words:
            shown[record.id] = words
            self._say(
                f"{name}: {how_it_stands(record)}  {curves.sparkline(curves.losses(rows))}  {curves.in_words(rows)}"
            )


def kill_container(admin_url: str, alias: str) -> str | None:
    """Kill a busy container of a training class of the local Modal; returns its id, None: there is none."""
    admin = AdminClient(admin_url)
    busy = [
        row["task_id"]
        for row in admin.containers(live=True)
        if row["running_inputs"] and str(row["function_tag"]).startswith(f"{alias}.")
    ]
    if not busy:
        return None
    admin.inject("kill", task_id=busy[0])
    return str(busy[0])
