"""A key of Celery's that holds something which it should not: told, left out, and served again when it is mended."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
from celery import Celery

from infra.celery_config import make_celery
from infra.nudging import CeleryNudger
from ledger import Kind, Ledger
from ledger.nudges import decide
from tests.integration.flow.conftest import Whole
from tests.security.broker.conftest import SMALL, accepted
from tests.support.celery_worker import Worker, running_worker
from tests.support.ledgers import fresh_ledger
from tests.support.redis_server import RedisServer
from tests.support.settings import settings_of
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(180)

SEPARATOR = "\x06\x16"
MAKE: dict[str, Callable[["redis.Redis", str], object]] = {
    "string": lambda client, key: client.set(key, "x"),
    "hash": lambda client, key: client.hset(key, "a", "b"),
    "zset": lambda client, key: client.zadd(key, {"a": 1}),
    "stream": lambda client, key: client.xadd(key, {"a": "b"}),
}


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("key", "kind", "log"),
    [
        ("overflow", "string", "overflow.1"),
        ("overflow", "stream", "overflow.1"),
        ("inhouse.render", "hash", "gpu.1"),
        ("train", "zset", "dispatch.1"),
        (f"celery{SEPARATOR}3", "string", "dispatch.1"),
        (f"train{SEPARATOR}9", "hash", "dispatch.1"),
    ],
)
def test_a_wrong_type_under_a_queues_key_is_told_and_gone_round(
    whole: Whole, broker: "redis.Redis", producer: Celery, key: str, kind: str, log: str
) -> None:
    # given what worker logs so far, and a key of its queues that holds something else
    said = _log(whole, log)
    told = len(said())
    broker.delete(key)
    MAKE[kind](broker, key)
    try:
        # then it says so once, and the exporter shows it
        shown = key.encode("unicode_escape").decode().replace("\\", "\\\\")
        until(
            lambda: [line for line in said()[told:].splitlines() if "broker.wrong_type" in line and shown in line],
            lambda lines: len(lines) == 1,
            timeout_s=20,
        )
        queue = key.partition(SEPARATOR)[0]
        until(
            lambda: _metrics(whole),
            lambda text: f'overspill_broker_wrong_type_keys{{queue="{queue}"}} 1.0' in text,
            timeout_s=10,
        )
        assert 'overspill_redis_up{role="broker"} 1.0' in _metrics(whole)
        # and its other queues are served meanwhile
        if log == "dispatch.1":
            prompt = f"meanwhile {uuid.uuid4()}"
            producer.send_task("tasks.render", kwargs={"prompt": prompt, **SMALL}, queue="render")
            accepted(whole, prompt)
        # and whoever nudges is not hurt
        nudger = CeleryNudger(whole.settings)
        assert nudger.send(decide(Kind.RENDER))
        nudger.close()
    finally:
        # when it is mended
        broker.delete(key)
    # then it is served again
    until(lambda: said()[told:], lambda text: "broker.key_mended" in text, timeout_s=20)
    prompt = f"mended {uuid.uuid4()}"
    burst = "always" if key == "overflow" else "never"
    producer.send_task("tasks.render", kwargs={"prompt": prompt, **SMALL, "burst": burst})
    assert whole.ended(accepted(whole, prompt).id).artifact is not None
    assert f'overspill_broker_wrong_type_keys{{queue="{key.partition(SEPARATOR)[0]}"}} 0.0' in _metrics(whole)


def test_a_nudge_into_a_wrong_type_is_not_sent_and_raises_nothing(whole: Whole, broker: "redis.Redis") -> None:
    # given a queue whose key is no list
    broker.delete("train")
    broker.set("train", "x")
    nudger = CeleryNudger(whole.settings)
    try:
        # when a nudge goes there / then that is said, not raised
        assert nudger.send(decide(Kind.TRAIN)) is False
    finally:
        broker.delete("train")
        nudger.close()


def test_a_bare_sender_is_told(broker: "redis.Redis", producer: Celery) -> None:
    # given a queue whose key is no list / when a bare service sends there / then its own Celery tells it
    broker.delete("train")
    broker.set("train", "x")
    try:
        with pytest.raises(Exception, match="WRONGTYPE"):
            producer.send_task("tasks.train", kwargs={}, queue="train")
    finally:
        broker.delete("train")


@pytest.fixture
def ledger(redis_server: RedisServer) -> Iterator[Ledger]:
    with fresh_ledger(redis_server.url()) as fresh:
        yield fresh


#: Everything that kombu keeps in Redis beside the queues.
KEYS_OF_KOMBU = (
    "unacked",
    "unacked_index",
    "unacked_mutex",
    "_kombu.binding.celery",
    "_kombu.binding_permanent.celery",
    "_kombu.binding_deadlines",
    "_kombu.binding.celery.pidbox",
    "_kombu.binding.reply.celery.pidbox",
    "_kombu.binding.celeryev",
)


def test_a_worker_starts_on_a_broker_where_every_key_is_wrong(
    redis_server: RedisServer, ledger: Ledger, tmp_path: Path
) -> None:
    # given a broker on which every key of kombu's, and a queue, holds a stream
    environment = {
        "OVERSPILL_LEDGER_URL": redis_server.url(0),
        "OVERSPILL_LEDGER_PREFIX": ledger.prefix,
        "OVERSPILL_BROKER_URL": redis_server.url(5),
    }
    with redis.Redis.from_url(redis_server.url(5)) as broker, Celery(broker=redis_server.url(5)) as bare:
        broker.flushdb()
        for key in (*KEYS_OF_KOMBU, "train"):
            broker.xadd(key, {"a": "b"})
        # when a worker starts there
        with running_worker(tmp_path, queues="render,train,celery", environment=environment) as worker:
            # then it says what is wrong
            until(worker.logged, lambda text: "broker.wrong_type" in text and '"train"' in text, timeout_s=20)
            _takes(bare, ledger, worker, queue="render")
            # when all is mended / then it serves the queue that it could not
            for key in (*KEYS_OF_KOMBU, "train"):
                broker.delete(key)
            until(worker.logged, lambda text: "broker.key_mended" in text, timeout_s=20)
            _takes(bare, ledger, worker, queue="train")


@pytest.mark.long
def test_a_worker_of_one_queue_waits_for_it_without_spinning(
    redis_server: RedisServer, ledger: Ledger, tmp_path: Path
) -> None:
    # given a worker all of whose lists are something else
    environment = {
        "OVERSPILL_LEDGER_URL": redis_server.url(0),
        "OVERSPILL_LEDGER_PREFIX": ledger.prefix,
        "OVERSPILL_BROKER_URL": redis_server.url(6),
    }
    keys = ["render", *(f"render{SEPARATOR}{step}" for step in (3, 6, 9))]
    with redis.Redis.from_url(redis_server.url(6)) as broker, Celery(broker=redis_server.url(6)) as bare:
        broker.flushdb()
        app = make_celery(settings_of({"broker_url": redis_server.url(6)}))
        with running_worker(tmp_path, queues="render", environment=environment, app=app) as worker:
            for key in keys:
                broker.set(key, "x")
            until(worker.logged, lambda text: text.count("broker.wrong_type") == len(keys), timeout_s=20)
            before = _cpu_s(worker)
            # when it has nothing to wait for, over five of its looks
            until(lambda: broker.info("commandstats")["cmdstat_type"]["calls"], _after(5 * len(keys)), timeout_s=30)
            # then it has hardly computed
            assert _cpu_s(worker) - before < 1.5
            # when one of its lists is mended / then it is served
            broker.delete("render")
            _takes(bare, ledger, worker, queue="render")
            for key in keys:
                broker.delete(key)
        app.close()


def _after(more: int) -> Callable[[int], bool]:
    first: list[int] = []

    def seen(number: int) -> bool:
        first.append(number)
        return number >= first[0] + more

    return seen


def _cpu_s(worker: Worker) -> float:
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _takes(bare: Celery, ledger: Ledger, worker: Worker, *, queue: str) -> None:
    """The worker takes a message from this queue."""
    prompt = f"taken {uuid.uuid4()}"
    # A bare sender declares its queue, which needs the very keys; what is pushed needs none of them.
    bare.send_task("tasks.render", kwargs={"prompt": prompt, **SMALL}, queue=queue, declare=[])
    until(
        lambda: [record.spec for record in ledger.jobs.page(Kind.RENDER, limit=10).records],
        lambda specs: any(prompt in spec for spec in specs),
        timeout_s=20,
    )
    assert worker.lives


def _log(whole: Whole, name: str) -> Callable[[], str]:
    path = whole.stack.folder.logs / f"{name}.log"
    return path.read_text


def _metrics(whole: Whole) -> str:
    return httpx.get(whole.stack.environment["OVERSPILL_EXPORTER_URL"] + "/metrics", trust_env=False, timeout=10).text
