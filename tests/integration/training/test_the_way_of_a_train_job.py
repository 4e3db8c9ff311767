"""A train job travels the whole way, in-house and on Modal, and whatever dies, it ends with the same weights."""

import os
import signal

import psutil
import pytest

from ledger import Pool, RenderJob, State
from ledger.errors import ModelNotFound
from overspill.demo.train import kill_container
from tests.integration.training.conftest import Trainer
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(240)


def _kill_tree(pid: int) -> None:
    """SIGKILL a process and all its children at once, as the end of a host would."""
    parent = psutil.Process(pid)
    for process in [parent, *parent.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)


def _starts(trainer: Trainer, job_id: str) -> list[int]:
    return [row["step"] for row in trainer.ledger.attempts.training_rows(job_id) if row["kind"] == "started"]


def test_a_killed_worker_and_a_killed_container_cost_an_interval_each_and_a_stopped_worker_nothing(
    trainer: Trainer, undisturbed: dict[str, str]
) -> None:
    # Given the same run in-house and on Modal, each with a checkpoint that is in S3
    inhouse, on_modal = trainer.submit(burst="never"), trainer.submit(burst="always")
    trainer.checkpoint_told(inhouse)
    assert trainer.stack.supervisor is not None
    pid = trainer.stack.supervisor["gpu.1"].pid
    assert pid is not None
    # When the worker dies, and the container does
    _kill_tree(pid)
    trainer.checkpoint_told(on_modal)
    assert kill_container(trainer.stack.environment["MODAL_LOCAL_ADMIN_URL"], "TrainingSession_L4")
    # And in-house, where another attempt goes on from the checkpoint, the new worker is asked to stop, as by a deploy
    until(lambda: _starts(trainer, inhouse), lambda starts: len(starts) > 1, timeout_s=60)
    trainer.stack.supervisor["gpu.1"].process.terminate()
    # Then its run was saved and put back, and a third attempt goes on at that very step
    record = trainer.ended(inhouse)
    assert (record.state, record.pool, record.attempt) == (State.COMPLETED, Pool.INHOUSE, 3), record
    assert [trainer.ledger.jobs.attempt(inhouse, number)["outcome"] for number in (1, 2)] == ["lease_lost", "preempted"]
    first, second, third = _starts(trainer, inhouse)
    assert first == 0
    assert second >= 10
    (stopped,) = [row["step"] for row in trainer.ledger.attempts.training_rows(inhouse) if row["kind"] == "stopped"]
    assert third == stopped
    # And on Modal the same call goes on in another container
    struck = trainer.ended(on_modal)
    assert (struck.state, struck.pool, struck.gpu) == (State.COMPLETED, Pool.MODAL, "L4"), struck
    assert _starts(trainer, on_modal)[-1] >= 10
    assert struck.cost_usd_micros > 0
    # And the weights of both are those of a run that nothing struck
    assert trainer.weights(record) == undisturbed
    assert trainer.weights(struck) == undisturbed


def test_a_run_comes_home_from_modal_at_a_checkpoint(trainer: Trainer, undisturbed: dict[str, str]) -> None:
    # Given the one own slot busy, and a run whose slack is used up, so that it is begun on Modal
    other = trainer.submit(burst="never", steps=100_000)
    trainer.when(other, lambda record: record.state is State.RUNNING)
    trainer.think_slow("image_classifier@L4")
    job_id = trainer.submit(deadline_s=600)
    away = trainer.when(job_id, lambda record: record.pool is Pool.MODAL)
    assert away.attempt == 1
    trainer.checkpoint_told(job_id)
    # When the slot falls idle
    trainer.ledger.jobs.cancel(other)
    # Then it migrates back at a checkpoint, and ends with the same weights
    record = trainer.ended(job_id)
    assert (record.state, record.pool, record.attempt) == (State.COMPLETED, Pool.INHOUSE, 2), record
    assert trainer.ledger.jobs.attempt(job_id, 1)["outcome"] == "moved_home"
    assert _starts(trainer, job_id)[-1] >= 10
    assert trainer.weights(record) == undisturbed


def test_what_was_trained_renders(trainer: Trainer) -> None:
    # Given a (hardly) trained transformer
    small = {"width": 32, "heads": 2, "depth": 1, "steps": 4, "checkpoint_every_steps": 4, "sample_steps": 2}
    job_id = trainer.submit(recipe="diffusion_transformer", burst="never", **small)
    assert trainer.ended(job_id).state is State.COMPLETED
    # When a render names it, wherever it would have run
    video = RenderJob(prompt="a red circle", seconds=1, size="320x180", fps=8, model=f"dit:{job_id}")
    record = trainer.ended(trainer.ledger.jobs.submit(video, source="client").job_id)
    # Then there is a video, made in-house
    assert (record.state, record.pool) == (State.COMPLETED, Pool.INHOUSE), record
    # And a job that has trained nothing is an error with its name
    wrong = video.model_copy(update={"model": "dit:ftjob_" + "0" * 32})
    with pytest.raises(ModelNotFound, match="ftjob_"):
        trainer.ledger.jobs.submit(wrong, source="client")
