"""Nudges may be signed: then nobody without the key has a worker do anything."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis
from celery import Celery
from pydantic import SecretStr, ValidationError

from infra.celery_config import make_celery
from infra.nudging import CeleryNudger
from infra.settings import Settings
from ledger import Kind, Ledger
from ledger.models import JobRecord, RenderJob
from ledger.nudges import SIGNATURE_HEADER, Nudge, decide, is_signed, sign
from ledger.states import State
from overspill.client import Client
from tests.support.celery_worker import Worker, running_worker
from tests.support.redis_server import RedisServer
from tests.support.settings import ledger_settings_of, settings_of
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(120)

OLD, NEW, WRONG = "the-key-of-last-year", "the-key-of-this-year", "the-key-of-somebody-else"
DATABASE = 8
NUDGE = decide(Kind.RENDER)


@dataclass
class Signed:
    """A dispatcher that takes signed nudges only, and what belongs to it."""

    worker: Worker
    ledger: Ledger
    broker: "redis.Redis"
    bare: Celery
    app: Celery
    url: str

    def settings(self, keys: str) -> Settings:
        """The settings of who holds these keys."""
        return settings_of({"broker_url": self.url, "nudge_keys": keys})

    def waiting(self) -> str:
        """A job that nobody has been nudged about, once no dispatcher is at work any more."""
        until(
            lambda: self.app.control.inspect(timeout=0.5).active(),
            lambda tasks: tasks is not None and not any(tasks.values()),
            timeout_s=20,
        )
        job = RenderJob.model_validate({"prompt": f"signed {uuid.uuid4()}", "seconds": 1, "burst": "never"})
        return self.ledger.jobs.submit(job, source="client").job_id

    def placed(self, job_id: str) -> JobRecord:
        """The job, once a dispatcher has decided about it."""
        return until(lambda: self.ledger.jobs.get(job_id), lambda record: record.state is State.PLACED, timeout_s=20)

    def dropped(self, reason: str) -> int:
        """Messages dropped for a reason."""
        return self.ledger.counters().get(f"messages_dropped_total|reason={reason}", 0)


@pytest.fixture(scope="module")
def signed(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signed]:
    url, prefix = redis_server.url(DATABASE), "{signed}"
    # No sweep sends a nudge again while a test looks.
    again = 3600
    settings = ledger_settings_of({"ledger_url": redis_server.url(0), "ledger_prefix": prefix, "nudge_again_s": again})
    app = make_celery(settings_of({"broker_url": url}))
    environment = {
        "OVERSPILL_LEDGER_URL": redis_server.url(0),
        "OVERSPILL_LEDGER_PREFIX": prefix,
        "OVERSPILL_BROKER_URL": url,
        "OVERSPILL_NUDGE_KEYS": f"{NEW}, {OLD}",
        "OVERSPILL_NUDGE_AGAIN_S": str(again),
    }
    with (
        Ledger(settings) as ledger,
        redis.Redis.from_url(url) as broker,
        Celery(broker=url, set_as_current=False) as bare,
        running_worker(
            tmp_path_factory.mktemp("signed"), queues="render,train,celery", environment=environment, app=app
        ) as worker,
    ):
        yield Signed(worker, ledger, broker, bare, app, url)
    app.close()


@pytest.mark.parametrize("keys", [NEW, OLD, f"{OLD},{NEW}"])
def test_a_signed_nudge_is_taken_also_while_keys_change(signed: Signed, keys: str) -> None:
    # given a job that waits, and a process of ours with the newest key, the last one, or both
    job_id = signed.waiting()
    nudger = CeleryNudger(signed.settings(keys))
    # when it nudges / then the job is decided about
    assert nudger.send(NUDGE)
    signed.placed(job_id)
    nudger.close()


def test_the_client_signs(signed: Signed) -> None:
    # given a service with the key / when it submits / then its nudge is taken
    settings = signed.ledger.settings.model_copy(
        update={"broker_url": SecretStr(signed.url), "nudge_keys": SecretStr(NEW)}
    )
    client = Client(settings)
    job_id = client.submit(prompt="by the client", seconds=1, burst="never")
    signed.placed(job_id)
    client.close()


HOSTILE: dict[str, tuple[Callable[[str], object], str]] = {
    "none": (lambda _: None, "unsigned"),
    "another's key": (lambda message_id: sign(WRONG, NUDGE, message_id=message_id), "bad_signature"),
    "of another message": (lambda _: sign(NEW, NUDGE, message_id="another"), "bad_signature"),
    "of another kind": (lambda mid: sign(NEW, decide(Kind.TRAIN), message_id=mid), "bad_signature"),
    "of another queue": (
        lambda mid: sign(NEW, Nudge(queue="train", task=NUDGE.task, kind=NUDGE.kind), message_id=mid), "bad_signature",
    ),
    "of another task": (
        lambda mid: sign(NEW, Nudge(queue="render", task="tasks.other", kind=NUDGE.kind), message_id=mid),
        "bad_signature",
    ),
    "empty": (lambda _: "", "bad_signature"),
    "of another type": (lambda _: {"hex": "00"}, "bad_signature"),
    "a lone surrogate": (lambda _: "\ud800", "bad_signature"),
    "true": (lambda _: True, "bad_signature"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_any_other_nudge_is_dropped_and_counted(signed: Signed, made: Callable[[str], object], reason: str) -> None:
    # given a job that waits / when somebody without the key nudges
    job_id, before = signed.waiting(), signed.dropped(reason)
    message_id = str(uuid.uuid4())
    signature = made(message_id)
    headers = {} if signature is None else {SIGNATURE_HEADER: signature}
    signed.bare.send_task(NUDGE.task, kwargs=NUDGE.kwargs, queue=NUDGE.queue, task_id=message_id, headers=headers)
    # then it is dropped and counted, and the job waits on
    until(lambda: signed.dropped(reason), lambda number: number == before + 1, timeout_s=20)
    assert signed.ledger.jobs.get(job_id).state is State.QUEUED


def test_a_bare_render_needs_no_signature(signed: Signed) -> None:
    # given a service that has nothing but Celery, as the quickstart shows it / when it sends a job
    prompt = f"bare {uuid.uuid4()}"
    signed.bare.send_task("tasks.render", kwargs={"prompt": prompt, "seconds": "4", "burst": "never"})
    # then it is accepted and decided about
    records = until(
        lambda: [record for record in signed.ledger.jobs.page(Kind.RENDER, limit=50).records if prompt in record.spec],
        bool,
        timeout_s=20,
    )
    signed.placed(records[0].id)


def test_a_short_key_is_refused() -> None:
    # given a key that could be guessed / when it is set / then it is refused, without being told
    with pytest.raises(ValidationError, match="16 characters") as refused:
        ledger_settings_of({"nudge_keys": f"{NEW},short"})
    assert NEW not in str(refused.value.errors(include_input=False))


def test_no_keys_mean_no_signature_and_spaces_are_none() -> None:
    # given settings / when their keys are read / then the first signs, and blanks are no keys
    assert ledger_settings_of({}).keys_of_nudges == ()
    assert ledger_settings_of({"nudge_keys": " , "}).keys_of_nudges == ()
    assert ledger_settings_of({"nudge_keys": f" {NEW} , {OLD}"}).keys_of_nudges == (NEW, OLD)
    assert not is_signed((), NUDGE, message_id="x", signature=sign("", NUDGE, message_id="x"))
