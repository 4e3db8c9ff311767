"""Whatever dies, a job accepted is a job done, once."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from infra.nudging import CeleryNudger
from ledger import BurstMode, Kind, Pool, RenderJob, State
from ledger.decisions import Receipt, RunOnModal
from ledger.nudges import decide
from ledger.outcomes import Placed
from tests.integration.flow.conftest import LEASE_S, Whole
from tests.support.ledgers import claim_spawns
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(240)


def _submit(whole: Whole, **fields: object) -> str:
    job = RenderJob.model_validate({"prompt": "a long river", "seconds": 4, "size": "640x360", **fields})
    submitted = whole.ledger.jobs.submit(job, source="client")
    nudger = CeleryNudger(whole.settings)
    nudger.send(decide(Kind.RENDER))
    nudger.close()
    return submitted.job_id


def _kill_tree(pid: int) -> None:
    """SIGKILL a process and all its children at once, as the end of a host would."""
    parent = psutil.Process(pid)
    for process in [parent, *parent.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)


def test_a_killed_gpu_worker_loses_its_attempt_and_not_the_job(whole: Whole) -> None:
    # Given a long render that is under way in-house
    job_id = _submit(whole, seconds=20, size="1280x720", burst="never")  # (on a fast machine, six are over too soon)
    running = whole.when(job_id, lambda record: record.state is State.RUNNING and record.progress > 5)
    assert running.worker is not None
    victim = running.worker.split("@")[0].replace("gpu-", "gpu.")
    # When its worker is killed, children and all
    pid = whole.stack.supervisor[victim].pid
    assert pid is not None
    killed_at = time.monotonic()
    _kill_tree(pid)
    # Then another attempt runs within two lease times
    again = whole.when(job_id, lambda record: record.attempt == 2 and record.state is State.RUNNING)
    assert time.monotonic() - killed_at < 2 * LEASE_S
    assert again.pool is Pool.INHOUSE
    # When now the process of the pool that works on it dies, its main process says so, and no lease has to lapse
    again = whole.when(job_id, lambda record: record.attempt == 2 and record.progress > 5)
    assert again.worker is not None
    survivor = whole.stack.supervisor[again.worker.split("@")[0].replace("gpu-", "gpu.")]
    assert survivor.pid is not None
    (child,) = psutil.Process(survivor.pid).children()
    child.kill()
    whole.when(job_id, lambda record: record.attempt == 3 and record.state is State.RUNNING)
    assert whole.ledger.jobs.attempt(job_id, 2)["outcome"] == "crash"
    assert "signal 9" in whole.ledger.jobs.attempt(job_id, 2)["message"]
    # And the job completes once, with one artifact: the third attempt's
    done = whole.ended(job_id, timeout_s=120)
    assert (done.state, done.attempt) == (State.COMPLETED, 3)
    assert {key.split("/")[2] for key in whole.objects(job_id)} == {"3"}
    completions = [event for event in whole.ledger.jobs.history(job_id) if event.state == "completed"]
    assert len(completions) == 1


def test_a_killed_redis_stalls_everything_and_loses_nothing(whole: Whole) -> None:
    # Given jobs on both pools
    ids = [_submit(whole, burst=burst) for burst in ("never", "always", "auto", "auto")]
    # When Redis is killed and comes back from its append-only file
    redis_service = whole.stack.redis
    assert redis_service is not None
    redis_service.kill()
    redis_service.start()
    redis_service.ready()
    # Then every job completes, by workers that nobody restarted
    assert {whole.ended(job_id, timeout_s=120).state for job_id in ids} == {State.COMPLETED}
    whole.settled()


def test_a_killed_overflow_worker_leaves_its_calls_to_the_next(whole: Whole) -> None:
    # Given a call on Modal
    job_id = _submit(whole, seconds=6, size="1280x720", burst="always")
    whole.when(job_id, lambda record: record.call_id is not None)
    # When the only follower is killed
    pid = whole.stack.supervisor["overflow.1"].pid
    assert pid is not None
    _kill_tree(pid)
    # Then the next one follows the same call to its end: no second attempt is paid for
    done = whole.ended(job_id, timeout_s=180)
    assert (done.state, done.attempt) == (State.COMPLETED, 1)


def test_a_cancelled_modal_job_stops_its_gpu_and_gives_its_money_back(whole: Whole) -> None:
    # Given a long render on Modal
    job_id = _submit(whole, seconds=20, size="1792x1024", burst="always")
    whole.when(job_id, lambda record: record.state is State.RUNNING and record.call_id is not None)
    # When it is cancelled
    whole.ledger.jobs.cancel(job_id)
    assert whole.ledger.jobs.get(job_id).state is State.CANCELLED
    # Then its call is stopped and settled, and nothing was published
    whole.settled()
    assert whole.ledger.jobs.attempt(job_id, 1)["settled"] == "1"
    assert whole.objects(job_id) == []
    assert whole.ledger.jobs.get(job_id).artifact is None


def test_a_call_that_nobody_recorded_is_found_and_stopped(whole: Whole) -> None:
    # Given a spawner that dies between the spawn and its record: the ledger has the intent, Modal has the call
    job = RenderJob(prompt="an orphan", seconds=1, size="320x180", burst=BurstMode.ALWAYS)
    job_id = whole.ledger.jobs.submit(job, source="client").job_id
    (claimed,) = whole.ledger.placement.claim_queued(Kind.RENDER, limit=1, lease_s=5)
    receipt = Receipt(policy="test", rule="test", decision="test")
    placed = whole.ledger.placement.place(claimed, RunOnModal("H100", 500_000), receipt=receipt)
    assert isinstance(placed, Placed)
    (record,) = claim_spawns(whole.ledger, worker="dies", limit=1, lease_s=0.1)
    # The attempt has been given up before the call can announce itself: nobody waits for it any more
    until(lambda: whole.ledger.jobs.attempt(job_id, 1), lambda at: at.get("outcome") == "spawn_lost", timeout_s=30)
    program = textwrap.dedent(
        f"""
        import asyncio
        from workers.overflow.modal_sdk.client import ModalSdk
        calls = ModalSdk(app_name="overspill-renderer", environment=None, max_result_bytes=2**30)
        request = dict(prompt="an orphan", width=1792, height=1024, seconds=20, fps=24, seed=0)
        attempt_of = ({record.id!r}, {record.attempt})
        print(asyncio.run(calls.spawn(request, attempt_of=attempt_of, gpu="H100", timeout_s=20)))
        """
    )
    spawned = subprocess.run(
        [sys.executable, "-c", program], env=whole.stack.process_environment, cwd=whole.stack.root,
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    orphan = spawned.stdout.strip()
    # Then the job gets another attempt and completes by it
    done = whole.ended(job_id, timeout_s=150)
    assert (done.state, done.attempt) == (State.COMPLETED, 2)
    # And the first call was found by its announcement, stopped, and paid for; nothing is left of it
    first = until(
        lambda: whole.ledger.jobs.attempt(job_id, 1), lambda at: at.get("call_id") == orphan and "settled" in at,
        timeout_s=60,
    )  # fmt: skip
    assert int(first["cost_usd_micros"]) > 0
    assert "call.orphan_found" in [event.event for event in whole.ledger.jobs.history(job_id)]
    until(lambda: whole.ledger.audit(whole.ledger.money.limits()), lambda found: found == [], timeout_s=30)
    whole.settled()


def test_a_cancelled_in_house_job_frees_its_slot(whole: Whole) -> None:
    job_id = _submit(whole, seconds=20, size="1792x1024", burst="never")
    whole.when(job_id, lambda record: record.state is State.RUNNING and record.progress > 0)
    whole.ledger.jobs.cancel(job_id)
    # The slot is free for the next job long before the render would have ended
    assert whole.ended(_submit(whole, burst="never", seconds=1), timeout_s=30).state is State.COMPLETED
    assert whole.objects(job_id) == []
