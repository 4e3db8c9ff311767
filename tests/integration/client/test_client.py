"""The client against a real Redis: as ledger, and as broker of a real Celery."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from opentelemetry.sdk.trace import TracerProvider

import overspill
from ledger import Ledger
from ledger.models import Artifact, Kind
from ledger.nudges import Nudge
from ledger.outcomes import AlreadyEnded, Cancelled
from ledger.retries import Cause
from overspill.client import AsyncClient, Client, JobFailed, WaitTimeout
from tests.support.ledgers import start_inhouse
from tests.support.redis_server import RedisServer, running_redis

ARTIFACT = Artifact("b", "k", None, 3, "0")


class Recorder:
    def __init__(self) -> None:
        self.sent: list[Nudge] = []
        self.closed = 0

    def send(self, nudge: Nudge) -> bool:
        self.sent.append(nudge)
        return True

    def close(self) -> None:
        self.closed += 1


def settings_on(server: RedisServer) -> overspill.LedgerSettings:
    return overspill.LedgerSettings.model_validate(
        {"url": server.url(0), "broker_url": server.url(6), "prefix": "{c" + uuid4().hex[:8] + "}"}
    )


@pytest.fixture
def settings(redis_server: RedisServer) -> Iterator[overspill.LedgerSettings]:
    settings = settings_on(redis_server)
    yield settings
    with Ledger(settings) as ledger:
        for key in ledger.client.scan_iter(f"{ledger.prefix}:*"):
            ledger.client.delete(key)


@pytest.fixture
def ledger(settings: overspill.LedgerSettings) -> Iterator[Ledger]:
    with Ledger(settings) as ledger:
        yield ledger


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(tmp_path) as server:
        yield server


def finish(ledger: Ledger, job_id: str) -> None:
    record = start_inhouse(ledger)
    assert record.id == job_id
    ledger.attempts.begin_delivery(record.id, record.attempt)
    ledger.attempts.complete(record.id, record.attempt, artifact=ARTIFACT, measurements={}, cost_usd_micros=7)


def sleeping(steps: dict[int, Callable[[], None]]) -> tuple[Callable[[float], None], Callable[[], float], list[float]]:
    """A sleep and a clock for `Client`: nobody really sleeps, and at the n-th sleep something happens."""
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        steps.get(len(slept), lambda: None)()

    return sleep, lambda: sum(slept), slept


def test_submit_wait_and_the_record_of_what_was_done(settings: overspill.LedgerSettings, ledger: Ledger) -> None:
    # given a worker that is done at the third look
    job_ids: list[str] = []
    sleep, clock, slept = sleeping({3: lambda: finish(ledger, job_ids[0])})
    recorder = Recorder()
    with Client(settings, sender=recorder, sleep=sleep, clock=clock) as client:
        # when
        job_ids.append(client.submit(prompt="a ball", seconds="8", tenant="acme"))
        # then the job is in the ledger and a nudge was sent
        record = client.status(job_ids[0])
        assert (record.tenant, record.status, record.job.prompt) == ("acme", "queued", "a ball")  # type: ignore[union-attr]  # a render job
        assert [nudge.queue for nudge in recorder.sent] == ["render"]
        # when / then
        done = client.wait(job_ids[0], timeout_s=60)
    assert (done.artifact, done.cost_usd_micros, len(slept)) == (ARTIFACT, 7, 3)
    assert recorder.closed == 1


def test_wait_gives_up_in_time_and_the_job_goes_on(settings: overspill.LedgerSettings) -> None:
    sleep, clock, slept = sleeping({})
    with Client(settings, sender=Recorder(), sleep=sleep, clock=clock) as client:
        job_id = client.submit(prompt="x")
        with pytest.raises(WaitTimeout) as gave_up:
            client.wait(job_id, timeout_s=30)
        assert sum(slept) == pytest.approx(30)
        assert gave_up.value.record == client.status(job_id)


def test_wait_says_why_there_will_be_no_result(settings: overspill.LedgerSettings, ledger: Ledger) -> None:
    with Client(settings, sender=Recorder()) as client:
        failing, cancelled = client.submit(prompt="x"), client.submit(prompt="y")
        record = start_inhouse(ledger)
        ledger.attempts.fail(failing, record.attempt, cause=Cause.CRASH, message="boom", max_attempts=1, jitter=0.5)
        with pytest.raises(JobFailed, match="boom") as failed:
            client.wait(failing)
        assert failed.value.code == "crash"
        assert client.cancel(cancelled) == Cancelled("queued")
        assert client.cancel(cancelled) == AlreadyEnded("cancelled")
        with pytest.raises(JobFailed) as failed:
            client.wait(cancelled, timeout_s=1)
        assert failed.value.code == "cancelled"


def test_an_unknown_id_is_said_so(settings: overspill.LedgerSettings) -> None:
    with Client(settings, sender=Recorder()) as client:
        for verb in (client.status, client.wait, client.cancel):
            with pytest.raises(overspill.JobNotFound):
                verb("video_none")


def test_the_same_key_is_the_same_job(settings: overspill.LedgerSettings) -> None:
    with Client(settings, sender=Recorder()) as client:
        ids = {client.submit(prompt="x", idempotency_key="k") for _ in range(3)}
        assert len(ids) == 1
        with pytest.raises(overspill.IdempotencyConflict):
            client.submit(prompt="y", idempotency_key="k")


def test_the_callers_trace_goes_on_in_the_jobs(settings: overspill.LedgerSettings) -> None:
    # given a caller that uses OpenTelemetry, and one that does not at the moment
    with Client(settings, sender=Recorder()) as client:
        with TracerProvider().get_tracer("caller").start_as_current_span("work") as span:
            traced = client.status(client.submit(prompt="x"))
        plain = client.status(client.submit(prompt="x"))
    # then the first job belongs to the caller's trace, the second to none
    context = span.get_span_context()
    assert traced.traceparent == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    assert plain.traceparent is None


def test_a_train_job_goes_to_its_own_queue(settings: overspill.LedgerSettings) -> None:
    recorder = Recorder()
    with Client(settings, sender=recorder) as client:
        by_fields = client.submit(kind="train", recipe="image_classifier")
        whole = client.submit(overspill.TrainJob(recipe="image_classifier"))
        assert client.status(by_fields).kind is client.status(whole).kind is Kind.TRAIN
    assert [nudge.queue for nudge in recorder.sent] == ["train", "train"]


def test_a_real_nudge_is_a_celery_message_with_json_in_the_right_queue(settings: overspill.LedgerSettings) -> None:
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as broker:
        broker.flushdb()
        with Client(settings) as client:
            client.submit(prompt="x")
        message = json.loads(broker.lpop("render"))
    assert message["headers"]["task"] == "tasks.dispatch"
    assert message["content-type"] == "application/json"


def test_the_asyncio_client_has_the_same_verbs(settings: overspill.LedgerSettings, ledger: Ledger) -> None:
    async def story() -> None:
        async with AsyncClient(settings, sender=Recorder()) as client:
            job_id = await client.submit(prompt="x")
            waiting = asyncio.create_task(client.wait(job_id, timeout_s=30))
            await asyncio.to_thread(finish, ledger, job_id)
            assert (await waiting).artifact == ARTIFACT
            assert await client.cancel(job_id) == AlreadyEnded("completed")
            other = await client.submit(prompt="y")
            with pytest.raises(WaitTimeout):
                await client.wait(other, timeout_s=0.15)
            assert await client.cancel(other) == Cancelled("queued")
            with pytest.raises(JobFailed):
                await client.wait(other)
            assert (await client.status(other)).status == "cancelled"

    asyncio.run(story())


PROGRAM = """
import os
import overspill
job_id = overspill.submit(prompt="from another process")
assert overspill.status(job_id).status == "queued"
child = os.fork()  # as a preforking server does
if child == 0:
    overspill.submit(prompt="from a child of it")
    raise SystemExit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
overspill.cancel(job_id)
try:
    overspill.wait(job_id)
except overspill.JobFailed as failed:
    print(failed.code)
"""


def test_the_functions_use_the_environment_also_after_a_fork(
    settings: overspill.LedgerSettings, ledger: Ledger
) -> None:
    # given
    environment = {
        **os.environ,
        "OVERSPILL_LEDGER_URL": settings.url.get_secret_value(),
        "OVERSPILL_BROKER_URL": settings.broker_url.get_secret_value(),
        "OVERSPILL_LEDGER_PREFIX": settings.prefix,
    }
    with redis.Redis.from_url(settings.broker_url.get_secret_value()) as broker:
        broker.flushdb()
        # when
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # then
        assert (done.returncode, done.stdout, done.stderr) == (0, "cancelled\n", "")
        assert broker.llen("render") == 2
    assert [str(record.state) for record in ledger.jobs.page(Kind.RENDER, newest_first=False).records] == [
        "cancelled",
        "queued",
    ]


@pytest.mark.chaos
def test_a_broker_that_is_away_costs_a_moment_and_never_the_job(
    settings: overspill.LedgerSettings, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    # given a broker on another server than the ledger
    apart = settings.model_copy(update={"broker_url": settings_on(own_redis).broker_url})
    with Client(apart) as client:
        client.submit(prompt="the first one also imports Celery")
        # when it is gone
        own_redis.kill()
        began = time.monotonic()
        job_id = client.submit(prompt="x")
        # then the job is accepted at once, with a line in the log
        assert time.monotonic() - began < 2
        assert client.status(job_id).status == "queued"
        assert [record.message for record in caplog.records] == ["nudge.not_sent"]
        # when it hangs
        own_redis.start()
        client.submit(prompt="connects again")
        assert own_redis.process is not None
        own_redis.process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert client.status(client.submit(prompt="y")).status == "queued"
            assert time.monotonic() - began < 4
        finally:
            own_redis.process.send_signal(signal.SIGCONT)
        # when it is back, then nudges are sent again by the same client
        client.submit(prompt="z")
        with redis.Redis.from_url(own_redis.url(6)) as broker:
            assert broker.blpop(["render"], timeout=10) is not None


@pytest.mark.chaos
def test_a_ledger_that_is_away_is_said_so_and_waited_for(own_redis: RedisServer) -> None:
    # given
    steps: dict[int, Callable[[], None]] = {}
    sleep, clock, slept = sleeping(steps)
    settings = settings_on(own_redis)
    with Client(settings, sender=Recorder(), sleep=sleep, clock=clock) as client, Ledger(settings) as ledger:
        job_id = client.submit(prompt="x")
        own_redis.kill()
        # when something is asked or submitted, then it is an error within 2 s
        for ask in (lambda: client.submit(prompt="y"), lambda: client.status(job_id), lambda: client.cancel(job_id)):
            began = time.monotonic()
            with pytest.raises(overspill.LedgerUnavailable):
                ask()
            assert time.monotonic() - began < 2
        # when it is waited for, and Redis comes back, then the wait goes on to the end
        steps.update({2: own_redis.start, 4: lambda: finish(ledger, job_id)})
        assert client.wait(job_id, timeout_s=60).artifact == ARTIFACT
        assert len(slept) == 4


def test_many_threads_share_one_client(settings: overspill.LedgerSettings, ledger: Ledger) -> None:
    with Client(settings) as client:
        threads = [threading.Thread(target=lambda: client.submit(prompt="x")) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(ledger.jobs.page(Kind.RENDER).records) == 16
