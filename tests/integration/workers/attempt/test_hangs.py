"""A real GPU worker, whose engine hangs: its process is killed, its attempt ends as `timeout`, its slot is free."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from infra.nudging import CeleryNudger
from infra.settings import Settings
from ledger import Kind, Ledger, Pool, State
from ledger.decisions import RunInhouse
from ledger.models import JobRecord
from ledger.nudges import run
from overspill.dev.process import LeashedProcess
from overspill.dev.s3_service import S3Service
from tests.integration.workers.conftest import settings_for
from tests.support.hanging_worker import ENGINE
from tests.support.ledgers import move_clock, place, submit
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)

LEASE_S = 1.5
#: Longer than two leases: what keeps a lease meanwhile is not the engine.
PROGRESS_S = 4.0
START_S = 4.5
WALL_S = 7.5
ROOT = Path(__file__).parents[4]


@dataclass
class GpuWorker:
    """A worker of one slot, and what a test does with it."""

    process: LeashedProcess
    settings: Settings
    ledger: Ledger

    def run(self, prompt: str) -> str:
        """Place a render in-house, and nudge the worker."""
        job_id = submit(self.ledger, prompt=prompt, size="320x180", seconds=1)
        self.place()
        return job_id

    def place(self) -> None:
        """Decide about what waits."""
        place(self.ledger, RunInhouse())
        nudger = CeleryNudger(self.settings)
        nudger.send(run(Pool.INHOUSE, Kind.RENDER))
        nudger.close()

    def again(self, job_id: str, attempt: int) -> None:
        """When an attempt has ended and the job waits, place it once more."""
        self.when(job_id, lambda record: record.state is State.QUEUED and record.attempt == attempt)
        move_clock(self.ledger, 60)
        self.place()

    def when(self, job_id: str, seen: Callable[[JobRecord], bool], *, timeout_s: float = 40) -> JobRecord:
        """Wait until a job looks so; meanwhile no lease lapses."""

        def look() -> JobRecord:
            assert self.ledger.maintenance.expire_leases(limit=10, max_attempts=9) == []
            return self.ledger.jobs.get(job_id)

        return until(look, seen, timeout_s=timeout_s)

    def runs(self, job_id: str) -> JobRecord:
        """Wait until a job's engine is at work."""
        return self.when(job_id, lambda record: record.state is State.RUNNING)

    def ended(self, job_id: str) -> JobRecord:
        """Wait for a job's end."""
        return self.when(job_id, lambda record: record.is_terminal)

    def attempt(self, job_id: str, attempt: int) -> tuple[str, str]:
        """How an attempt ended, and what was said of it."""
        facts = self.ledger.jobs.attempt(job_id, attempt)
        return facts["outcome"], facts["message"]

    @property
    def child(self) -> psutil.Process:
        """Its pool process."""
        assert self.process.pid is not None
        (child,) = psutil.Process(self.process.pid).children()
        return child


@pytest.fixture
def gpu(ledger: Ledger, s3: S3Service, redis_server: RedisServer, tmp_path: Path) -> Iterator[GpuWorker]:
    fields = {
        "broker_url": redis_server.url(7),
        "lease_s": LEASE_S,
        "render_engine": ENGINE,
        "start_timeout_s": START_S,
        "render_progress_timeout_s": PROGRESS_S,
        "render_wall_clock_s": WALL_S,
        "train_folder": str(tmp_path / "train"),
    }
    settings = settings_for(ledger, s3, **fields)
    environment = {
        **os.environ,
        **s3.environment,
        "PYTHONPATH": str(ROOT),
        "OVERSPILL_LEDGER_URL": settings.ledger.url.get_secret_value(),
        "OVERSPILL_LEDGER_PREFIX": settings.ledger.prefix,
        **{f"OVERSPILL_{name.upper()}": str(value) for name, value in fields.items()},
    }
    process = LeashedProcess(
        [sys.executable, "-m", "celery", "-A", "tests.support.hanging_worker", "worker", "-Q", "inhouse.render", "-P",
         "prefork", "-c", "1", "--disable-prefetch", "-n", "gpu-1@here", "--without-gossip", "--without-mingle"],
        environment=environment, log=tmp_path / "gpu.log", cwd=ROOT,
    )  # fmt: skip
    process.start()
    try:
        until(lambda: ledger.placement.view().kinds[Kind.RENDER].live_slots, lambda slots: slots == 1, timeout_s=60)
        yield GpuWorker(process, settings, ledger)
    finally:
        process.stop(grace_s=5)
        print((tmp_path / "gpu.log").read_text()[-6000:])  # noqa: T201 - should the test fail


@pytest.mark.parametrize("how", ["sleep", "hold"])
def test_an_engine_that_hangs_is_killed_and_another_attempt_completes(gpu: GpuWorker, tmp_path: Path, how: str) -> None:
    # Given an engine that hangs in its first attempt, with and without the interpreter's lock
    job_id = gpu.run(f"{how} once {tmp_path / 'was-here'}")
    gpu.runs(job_id)
    hung = gpu.child
    # When its clock runs out (and no lease has lapsed meanwhile)
    gpu.again(job_id, 1)
    # Then its process was killed, its attempt ended as a timeout, and the slot runs the next one
    hung.wait(5)
    assert gpu.attempt(job_id, 1) == (
        "timeout", f"attempt 1 hung and was stopped: no progress for {PROGRESS_S:g} s since its last progress",
    )  # fmt: skip
    done = gpu.ended(job_id)
    assert (done.state, done.attempt) == (State.COMPLETED, 2)
    counters = gpu.ledger.counters()
    assert counters["attempts_total|gpu=inhouse|kind=render|outcome=timeout|pool=inhouse"] == 1
    assert not [name for name in counters if "outcome=crash" in name]
    assert counters["hangs_total|clock=progress|kind=render"] == 1


@pytest.mark.long
def test_a_job_that_always_hangs_fails_as_timeout_and_takes_what_it_started_with_it(
    gpu: GpuWorker, tmp_path: Path
) -> None:
    # Given an engine that hangs in each attempt, with a child of its own and a grandchild
    family = tmp_path / "family"
    job_id = gpu.run(f"descend {family}")
    for attempt in (1, 2, 3):
        until(lambda: family.exists() and len(family.read_text().split()), lambda count: count == 2, timeout_s=30)
        descendants = [psutil.Process(int(pid)) for pid in family.read_text().split()]
        family.unlink()
        # When its clock runs out
        if attempt < 3:
            gpu.again(job_id, attempt)
        else:
            gpu.ended(job_id)
        # Then all of them are dead
        for one in descendants:
            until(one.is_running, lambda runs: not runs, timeout_s=10)
    # And in the end so is the job
    record = gpu.ledger.jobs.get(job_id)
    assert (record.state, record.error_code, record.attempt) == (State.FAILED, "timeout", 3)
    assert "since its start" in (record.error_message or "")
    # And the slot runs the next
    assert gpu.ended(gpu.run("a red ball")).state is State.COMPLETED


@pytest.mark.long
def test_an_engine_that_goes_on_is_killed_at_its_wall_clock_and_not_before(gpu: GpuWorker) -> None:
    # Given an engine that goes on for longer than the progress clock, and one that goes on for ever
    healthy, endless = gpu.run(f"steady {PROGRESS_S + 1.5}"), gpu.run("steady 10000")
    # When both are let run
    done = gpu.ended(healthy)
    gpu.again(endless, 1)
    # Then the first completes, and the second has been ended by its wall clock
    assert (done.state, done.attempt) == (State.COMPLETED, 1)
    assert gpu.attempt(endless, 1) == (
        "timeout", f"attempt 1 hung and was stopped: its wall clock of {WALL_S:g} s ran out",
    )  # fmt: skip


@pytest.mark.long
def test_a_worker_that_is_asked_to_stop_keeps_the_lease_of_what_it_still_runs(gpu: GpuWorker) -> None:
    # Given a render that takes longer than two leases
    job_id = gpu.run(f"steady {2 * LEASE_S + 1}")
    gpu.runs(job_id)
    # When its worker is asked to stop
    gpu.process.signal(signal.SIGTERM)
    # Then it is finished by the same attempt, and the worker ends
    done = gpu.ended(job_id)
    assert (done.state, done.attempt) == (State.COMPLETED, 1)
    assert gpu.process.wait(20) == 0


@pytest.mark.long
def test_a_hang_does_not_keep_a_worker_that_is_asked_to_stop(gpu: GpuWorker) -> None:
    # Given an engine that hangs
    job_id = gpu.run("sleep")
    gpu.runs(job_id)
    # When its worker is asked to stop
    gpu.process.signal(signal.SIGTERM)
    # Then the attempt ends as it would have, and so does the worker
    gpu.when(job_id, lambda record: record.state is State.QUEUED)
    assert gpu.attempt(job_id, 1)[0] == "timeout"
    assert gpu.process.wait(30) is not None
