"""In-house training on real parts: checkpoints lie in S3, and whoever comes next goes on from there."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="train jobs need torch: `make setup-tests`")

from engines.train import checkpoints
from engines.train.contract import TrainEvent
from engines.train.errors import DatasetProblem
from infra.artifacts import ArtifactStore
from ledger import Kind, Ledger, State, TrainJob
from ledger.decisions import Receipt, RunInhouse
from ledger.models import JobRecord
from ledger.outcomes import Placed
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import RecordingNudger, settings_for
from tests.support.ledgers import move_clock
from tests.support.modal_local import start_modal_local
from tests.support.overflow import client_of
from tests.support.settings import changed
from tests.support.waiting import until
from workers.attempt.slots import SlotTable
from workers.inhouse import run_next
from workers.maintenance.deletions import delete_objects
from workers.maintenance.pruning import prune_volume
from workers.maintenance.retirement import retire_jobs
from workers.resources import Resources
from workers.shutdown import StopRequest
from workers.training.configs import created_on
from workers.training.datasets import fetch_dataset
from workers.training.inhouse import _Run
from workers.training.onmodal import SpawnLost, TrainOnModal
from workers.training.store import CheckpointStore
from workers.training.volume import CheckpointVolume
from workers.training.wall_clock import train_wall_clock_s

TINY: dict[str, Any] = {
    "recipe": "image_classifier", "steps": 12, "batch_size": 16, "checkpoint_every_steps": 4, "width": 4, "depth": 1,
    "eval_examples": 16, "warmup_steps": 2, "log_every_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The prepared `shapes`, made once for this module."""
    return tmp_path_factory.mktemp("train")


@pytest.fixture
def trainer(ledger: Ledger, s3: S3Service, cache: Path) -> Resources:
    values = settings_for(ledger, s3, train_engine="torch", train_folder=str(cache), train_threads=1)
    nudger = RecordingNudger()
    return Resources(values, ledger, ArtifactStore(values), nudger)  # type: ignore[arg-type]  # the port's one method


def _place(ledger: Ledger, **fields: Any) -> str:
    job_id = ledger.jobs.submit(TrainJob.model_validate({**TINY, **fields}), source="client").job_id
    _place_next(ledger)
    return job_id


def _place_next(ledger: Ledger) -> None:
    (claimed,) = ledger.placement.claim_queued(Kind.TRAIN, limit=1, lease_s=10)
    placed = ledger.placement.place(claimed, RunInhouse(), receipt=Receipt("test", "test", "test"))
    assert isinstance(placed, Placed)


def _weights(resources: Resources, record: JobRecord, folder: Path) -> bytes:
    store = CheckpointStore(resources.artifacts)
    checkpoint = store.fetch_newest(record.id, folder)
    assert checkpoint is not None
    return b"".join((checkpoint.path / name).read_bytes() for name in sorted(checkpoint.metadata["files"]))


def test_a_run_leaves_its_last_checkpoint_in_s3_and_tells_how_it_went(trainer: Resources, ledger: Ledger) -> None:
    # Given a tiny job, when a GPU worker takes it
    job_id = _place(ledger)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    # Then its record points to the last checkpoint
    record = ledger.jobs.get(job_id)
    assert record.state is State.COMPLETED
    assert record.artifact is not None
    assert record.artifact.key == f"train/{job_id}/1/step-12/metadata.json"
    facts = json.loads(
        trainer.artifacts.client.get_object(Bucket=record.artifact.bucket, Key=record.artifact.key)["Body"].read()
    )
    assert facts["step"] == 12
    # And the ledger has its loss, its checkpoints and its speed
    rows = ledger.attempts.training_rows(job_id)
    assert [row["step"] for row in rows if row["kind"] == "checkpoint"] == [4, 8, 12]
    assert [row["n"] for row in rows] == sorted({row["n"] for row in rows})
    assert any(row["kind"] == "progress" and row["loss"] > 0 for row in rows)
    assert ledger.placement.training_speeds()["image_classifier@inhouse"] > 0
    assert '"accuracy"' in ledger.jobs.attempt(job_id, 1)["measurements"]
    # And its curve lies in S3 too, and nothing is left of it on the host
    store = trainer.artifacts
    listed = store.client.list_objects_v2(Bucket=store.bucket, Prefix=f"train/{job_id}/1/tensorboard/")
    assert [entry["Size"] > 0 for entry in listed["Contents"]] == [True]
    assert not list((trainer.settings.train.folder / "checkpoints").rglob(f"{job_id}*"))


def test_another_attempt_goes_on_from_what_the_first_left_in_s3(
    trainer: Resources, ledger: Ledger, tmp_path: Path
) -> None:
    # Given a run that was lost after its second checkpoint: what it left is in S3, its host is gone
    whole = _place(ledger)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    store = CheckpointStore(trainer.artifacts)
    lost = _place(ledger)
    eight = next(stored for stored in store.whole(whole) if stored.step == 8)
    store.put(lost, 0, store.fetch(eight, tmp_path / "left").path)
    # When another attempt begins
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    # Then it begins there, and the weights are the same as without the loss
    starts = [row["step"] for row in ledger.attempts.training_rows(lost) if row["kind"] == "started"]
    assert starts == [8]
    records = [ledger.jobs.get(job_id) for job_id in (whole, lost)]
    first, second = (_weights(trainer, record, tmp_path / record.id) for record in records)
    assert first == second


def test_a_torn_checkpoint_in_s3_is_passed_over(trainer: Resources, ledger: Ledger, tmp_path: Path) -> None:
    job_id = _place(ledger)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    store = CheckpointStore(trainer.artifacts)
    newest = store.whole(job_id)[0]
    trainer.artifacts.client.put_object(
        Bucket=trainer.artifacts.bucket, Key=f"{newest.prefix}model.safetensors", Body=b"torn"
    )
    fetched = store.fetch_newest(job_id, tmp_path)
    assert fetched is not None
    assert fetched.step == 8


def _rounds(threads: int, rounds: int, once: Callable[[int], Any]) -> list[Any]:
    """What `once(round)` returned or raised, from so many threads at the same moment, again and again."""
    together = threading.Barrier(threads)

    def run() -> list[Any]:
        said = []
        for number in range(rounds):
            together.wait(20)
            try:
                said.append(once(number))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test is about
                said.append(error)
        return said

    with ThreadPoolExecutor(threads) as pool:
        return [one for done in [pool.submit(run) for _ in range(threads)] for one in done.result()]


def test_slots_of_one_host_that_fetch_the_same_at_once_all_have_it(trainer: Resources, tmp_path: Path) -> None:
    # Given a checkpoint and a dataset in S3, and in every other round a torn checkpoint of that name on the host
    store = CheckpointStore(trainer.artifacts)
    files = {f"{name}.safetensors": bytes(5_000) for name in ("model", "optimizer")}
    written = checkpoints.write(tmp_path / "made", 4, files, {"score": None})
    stored = store.put("ftjob_both", 1, written.path)
    for name in ("cat/1.png", "dog/1.png"):
        trainer.artifacts.client.put_object(Bucket=trainer.artifacts.bucket, Key=f"sets/both/{name}", Body=CUT)
    rounds = 4
    for number in range(0, rounds, 2):
        (tmp_path / str(number) / "step-4").mkdir(parents=True)
        (tmp_path / str(number) / "step-4" / "metadata.json").write_text("{")
    # When four slots fetch both at once, then each has them whole
    fetched = _rounds(3, rounds, lambda number: store.fetch(stored, tmp_path / str(number)))
    assert {(str(one), getattr(one, "metadata", None) == written.metadata) for one in fetched} == {
        (str(checkpoints.read(tmp_path / str(number) / "step-4")), True) for number in range(rounds)
    }
    dataset = f"s3://{trainer.artifacts.bucket}/sets/both"
    found = _rounds(3, rounds, lambda number: fetch_dataset(trainer.artifacts, dataset, tmp_path / f"cache-{number}"))
    assert {str(one.relative_to(tmp_path)) if isinstance(one, Path) else repr(one) for one in found} == {
        str(next((tmp_path / f"cache-{number}" / "s3").iterdir()).relative_to(tmp_path)) for number in range(rounds)
    }
    assert all((one / "dog/1.png").read_bytes() == CUT for one in found)
    # And nothing half fetched is left
    assert not list(tmp_path.rglob(".unfinished-*"))


@pytest.mark.parametrize(("dataset", "said"), [("s3://no-such-bucket/x", "NoSuchBucket"), ("s3://a!/x", "name")])
def test_a_bucket_that_is_not_there_is_a_problem_of_the_dataset_and_not_waited_for(
    trainer: Resources, tmp_path: Path, dataset: str, said: str
) -> None:
    with pytest.raises(DatasetProblem) as caught:
        fetch_dataset(trainer.artifacts, dataset, tmp_path)
    assert caught.value.flaw == "missing"
    assert said in str(caught.value)


CUT = b"\x89PNG\r\n\x1a\n cut off here"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "there is none"),
        (["cat/1.png", "cat/2.png"], "cat"),
        (["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"], "1.png"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_ends_the_job_by_its_name(
    trainer: Resources, ledger: Ledger, files: list[str], said: str
) -> None:
    prefix = f"sets/{len(files)}"
    for name in files:
        trainer.artifacts.client.put_object(Bucket=trainer.artifacts.bucket, Key=f"{prefix}/{name}", Body=CUT)
    job_id = _place(ledger, dataset=f"s3://{trainer.artifacts.bucket}/{prefix}")
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "failed"
    record = ledger.jobs.get(job_id)
    assert record.error_code == "dataset_problem"
    assert said in (record.error_message or "")


def test_waiting_for_s3_is_no_hang_and_a_first_step_may_take_as_long_as_a_start(
    trainer: Resources, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a run, and what its main process sees of it while checkpoints are fetched and put, and at its events
    table = SlotTable(slots=1)
    seen: list[tuple[str, float]] = []

    def note(what: str) -> None:
        (view,) = table.views()
        seen.append((what, view.patience_s))

    for name in ("fetch_newest", "put"):
        original = getattr(CheckpointStore, name)

        def noted(*args: Any, name: str = name, original: Any = original, **named: Any) -> Any:
            note(name)
            return original(*args, **named)

        monkeypatch.setattr(CheckpointStore, name, noted)
    on_event = _Run._on_event

    def noted_event(run: Any, event: TrainEvent) -> None:
        on_event(run, event)
        note(event.kind)

    monkeypatch.setattr(_Run, "_on_event", noted_event)
    _place(ledger)
    # When it runs
    assert run_next(trainer, Kind.TRAIN, worker="w", table=table).outcome == "completed"
    # Then its clock rests for S3, has the length of a start until the first step is done, and then its own
    settings = trainer.settings
    patience = {what: {one for name, one in seen if name == what} for what in dict(seen)}
    assert patience["fetch_newest"] == patience["put"] == {math.inf}
    assert patience["started"] == {settings.attempts.start_timeout_s}
    assert patience["progress"] == patience["checkpoint"] == {settings.train.progress_timeout_s}
    assert table.views() == []


def test_a_runs_wall_clock_follows_from_its_size_once_its_speed_is_known(trainer: Resources, ledger: Ledger) -> None:
    # Given a job of a recipe of which nothing was learnt in-house / then only the setting bounds it
    record = ledger.jobs.get(_place(ledger))
    assert train_wall_clock_s(trainer, record) is None
    # When its speed is known / then it has ten times what is foreseen, and a start
    ledger.attempts.note_training(record.id, 0, [], speed=("image_classifier@inhouse", 600.0))
    foreseen_s = 600.0 * TINY["batch_size"] * TINY["steps"]
    assert train_wall_clock_s(trainer, record) == 10 * foreseen_s + trainer.settings.attempts.start_timeout_s
    # And a day at least
    ledger.attempts.note_training(record.id, 0, [], speed=("image_classifier@inhouse", 0.001))
    assert train_wall_clock_s(trainer, record) >= 86_400


def test_a_deployment_that_does_not_train_says_so(trainer: Resources, ledger: Ledger) -> None:
    job_id = _place(ledger)
    values = changed(trainer.settings, train_engine="off")
    off = Resources(values, ledger, trainer.artifacts, trainer.nudger)
    assert run_next(off, Kind.TRAIN, worker="w").outcome == "failed"
    assert ledger.jobs.get(job_id).error_code == "no_engine"


def test_what_is_forgotten_leaves_nothing_in_s3(trainer: Resources, ledger: Ledger) -> None:
    job_id = _place(ledger)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    store = CheckpointStore(trainer.artifacts)
    assert [stored.step for stored in store.whole(job_id)] == [12, 8, 4]
    move_clock(ledger, trainer.settings.maintenance.retention_s + 60)
    retire_jobs(trainer)
    assert delete_objects(trainer) == 1
    assert store.whole(job_id) == []
    assert ledger.attempts.training_rows(job_id) == []


@pytest.fixture
def volume() -> Iterator[CheckpointVolume]:
    """The volume of checkpoints, on a Modal of its own."""
    server = start_modal_local()
    try:
        yield CheckpointVolume(environment=None, client=client_of(server.env))
    finally:
        server.stop()


def test_an_upload_that_was_cut_is_no_checkpoint_and_what_retired_jobs_have_left_is_removed(
    trainer: Resources, ledger: Ledger, volume: CheckpointVolume, tmp_path: Path
) -> None:
    # Given a judge and a run that goes on on Modal, both with checkpoints in S3
    judge = _place(ledger)
    job_id = _place(ledger, classifier=judge)
    made = {}
    for job in (judge, job_id):
        facts = {"score": None, "config": {"recipe": "image_classifier"}}
        made[job] = checkpoints.write(tmp_path / job, 4, {"model.safetensors": job.encode()}, facts).path
        CheckpointStore(trainer.artifacts).put(job, 1, made[job])
    record = ledger.jobs.get(job_id)
    on_modal = TrainOnModal(trainer, volume)
    # And uploads of both that were cut before their metadata
    folder = f"image_classifier/{created_on(record).isoformat()}/{job_id}"
    half = tmp_path / "half" / "step-4"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    for place in (folder, f"classifiers/{judge}"):
        volume.upload(half, place)
        assert volume.steps(place) == []
    # When an attempt is prepared
    with suppress(SpawnLost):  # nobody has claimed it: only what lies on the volume matters here
        on_modal.prepare(record)
    # Then both are whole
    for place, job in ((folder, job_id), (f"classifiers/{judge}", judge)):
        assert volume.steps(place) == [4]
        assert checkpoints.read(volume.download(place, 4, tmp_path / "got" / job)).metadata
    # And when they are retired, nothing of them is left, on the volume neither
    for one in (judge, job_id):
        ledger.jobs.cancel(one)
    move_clock(ledger, trainer.settings.maintenance.retention_s + 60)
    retire_jobs(trainer)
    assert delete_objects(trainer) == 2
    assert CheckpointStore(trainer.artifacts).whole(job_id) == []
    # A follower may still mirror a last checkpoint, which goes with the volume's
    CheckpointStore(trainer.artifacts).put(job_id, 1, made[job_id])
    assert prune_volume(trainer, volume) == 2
    assert [volume.steps(place) for place in (folder, f"classifiers/{judge}")] == [[], []]
    assert delete_objects(trainer) == 2
    assert CheckpointStore(trainer.artifacts).whole(job_id) == []
    assert prune_volume(trainer, volume) == 0


@pytest.fixture
def stop_request(monkeypatch: pytest.MonkeyPatch) -> StopRequest:
    """What tells the runs of this test that their worker is asked to stop."""
    request = StopRequest()
    monkeypatch.setattr("workers.training.inhouse.stop_request", request)
    return request


def _outcome(ledger: Ledger, job_id: str, attempt: int) -> str:
    return str(ledger.jobs.attempt(job_id, attempt)["outcome"])


def test_a_worker_that_is_asked_to_stop_saves_at_the_next_step_and_requeues_the_run(
    trainer: Resources, ledger: Ledger, stop_request: StopRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Given an undisturbed run, and the same one at work, with one checkpoint at its end
    run = {"steps": 120, "checkpoint_every_steps": 120, "log_every_steps": 1}
    undisturbed = _place(ledger, **run)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    job_id = _place(ledger, **run)
    said: list[str] = []
    working = threading.Thread(target=lambda: said.append(run_next(trainer, Kind.TRAIN, worker="w").outcome))
    working.start()
    until(lambda: ledger.attempts.training_rows(job_id), lambda rows: len(rows) > 3, timeout_s=30)
    # When its worker is asked to stop
    stop_request.make()
    working.join(30)
    # Then the job waits again, preempted, and what it had reached lies in S3
    assert said == ["requeued"]
    assert (ledger.jobs.get(job_id).state, _outcome(ledger, job_id, 1)) == (State.QUEUED, "preempted")
    (stopped,) = [row["step"] for row in ledger.attempts.training_rows(job_id) if row["kind"] == "stopped"]
    assert 0 < stopped < 120
    assert [stored.step for stored in CheckpointStore(trainer.artifacts).whole(job_id)] == [stopped]
    # And another worker goes on at that very step, to the same weights
    monkeypatch.setattr("workers.training.inhouse.stop_request", StopRequest())
    move_clock(ledger, 5)
    _place_next(ledger)
    assert run_next(trainer, Kind.TRAIN, worker="w").outcome == "completed"
    starts = [row["step"] for row in ledger.attempts.training_rows(job_id) if row["kind"] == "started"]
    assert starts == [0, stopped]
    records = [ledger.jobs.get(one) for one in (undisturbed, job_id)]
    first, second = (_weights(trainer, record, tmp_path / record.id) for record in records)
    assert first == second


def test_a_run_that_comes_to_no_step_is_requeued_when_the_grace_is_over(
    trainer: Resources, ledger: Ledger, stop_request: StopRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a worker that is asked to stop while S3 gives it nothing for longer than the grace
    values = changed(trainer.settings, train_stop_grace_s=0.2)
    short_grace = Resources(values, ledger, trainer.artifacts, trainer.nudger)
    job_id = _place(ledger)

    def slow(*_: object, **__: object) -> None:
        stop_request.make()
        until(lambda: ledger.jobs.get(job_id).state, lambda state: state is State.QUEUED, timeout_s=20)

    monkeypatch.setattr(CheckpointStore, "fetch_newest", slow)
    # When it takes a job
    assert run_next(short_grace, Kind.TRAIN, worker="w").outcome == "abandoned"
    # Then the job waits again, and nothing else was said of it
    assert (ledger.jobs.get(job_id).state, _outcome(ledger, job_id, 1)) == (State.QUEUED, "preempted")
    assert ledger.jobs.get(job_id).attempt == 1
