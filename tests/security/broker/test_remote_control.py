"""Whoever can publish on the broker may look at a worker, and change nothing."""

import json
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from infra.celery_config import make_celery
from tests.integration.flow.conftest import Whole
from tests.security.broker.conftest import SMALL, accepted
from tests.support.celery_worker import running_worker
from tests.support.kombu_messages import envelope
from tests.support.redis_server import RedisServer
from tests.support.settings import settings_of
from tests.support.waiting import until
from workers.control import ALLOWED

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("unharmed")]

#: What would change a worker, with arguments that Celery takes.
REFUSED: dict[str, dict[str, Any]] = {
    "shutdown": {},
    "rate_limit": {"task_name": "tasks.dispatch", "rate_limit": "1/h"},
    "time_limit": {"task_name": "tasks.run_inhouse", "hard": 1, "soft": 1},
    "add_consumer": {"queue": "somebody.elses"},
    "cancel_consumer": {"queue": "render"},
    "pool_shrink": {"n": 1},
    "pool_grow": {"n": 100},
    "pool_restart": {"modules": ["antigravity"]},
    "autoscale": {"max": 100, "min": 0},
    "revoke": {"task_id": "x", "terminate": True},
    "revoke_by_stamped_headers": {"headers": {"a": "b"}, "terminate": True},
    "terminate": {"task_id": "x", "signal": "KILL"},
    "election": {"id": "x", "topic": "task", "action": {"task": "tasks.render", "kwargs": {"prompt": "elected"}}},
    "hello": {"from_node": "x", "revoked": {"x": 1}},
    "disable_events": {},
    "enable_events": {},
    "heartbeat": {},
    "clock": {},
    "report": {},
    "objgraph": {},
    "memdump": {},
    "memsample": {},
    "query_task": {"ids": ["x"]},
    "dump_active": {},
    "no_such_command": {},
}


@pytest.mark.parametrize("command", REFUSED, ids=list(REFUSED))
def test_a_command_that_changes_a_worker_is_refused(
    producer: Celery, dropped: Callable[[str], int], command: str
) -> None:
    # given four workers / when a producer commands them
    said = producer.control.broadcast(command, arguments=REFUSED[command], reply=True, timeout=0.5)
    # then nobody answers, each has counted it, and all live (see the fixture)
    assert said == []
    until(lambda: dropped("control_refused"), lambda number: number == 4, timeout_s=10)


def test_what_was_commanded_has_not_happened(whole: Whole, producer: Celery) -> None:
    # given what a hostile producer would begin with / when it has sent all of it
    for command in ("rate_limit", "add_consumer", "cancel_consumer", "pool_shrink", "disable_events"):
        producer.control.broadcast(command, arguments=REFUSED[command])
    # then every worker reads its own queues, with its own pool
    inspect = producer.control.inspect(timeout=2)
    queues = {
        worker.partition("@")[0]: {queue["name"] for queue in found}
        for worker, found in (inspect.active_queues() or {}).items()
    }
    assert queues == {
        "dispatch-1": {"render", "train", "celery"},
        "overflow-1": {"overflow"},
        "gpu-1": {"inhouse.render", "inhouse.train"},
        "gpu-2": {"inhouse.render", "inhouse.train"},
    }
    pools = {name: stats["pool"]["max-concurrency"] for name, stats in (inspect.stats() or {}).items()}
    assert pools[f"dispatch-1@{socket.gethostname()}"] == 4
    # and many dispatches go through at once
    prompts = [f"rated {uuid.uuid4()}" for _ in range(5)]
    for prompt in prompts:
        producer.send_task("tasks.render", kwargs={"prompt": prompt, **SMALL})
    for prompt in prompts:
        accepted(whole, prompt)


@pytest.mark.parametrize("command", sorted(ALLOWED))
def test_a_command_that_looks_is_answered_by_all(producer: Celery, command: str) -> None:
    # given four workers / when they are asked, as Flower does, with arguments that nobody may choose beside
    found = producer.control.broadcast(
        command, arguments={"safe": True, "taskinfoitems": ["app"], "with_defaults": True}, reply=True, timeout=2
    )
    # then all answer, without an error
    assert len(found) == 4
    assert not [answer for one in found for answer in one.values() if "error" in (answer or {})], found


@pytest.mark.long
def test_no_answer_holds_a_secret(whole: Whole, producer: Celery) -> None:
    # given the secrets of the stack
    environment = whole.stack.process_environment
    secrets = [
        value
        for name, value in environment.items()
        if name.startswith(("OVERSPILL_", "MODAL_", "FLOWER_")) and any(word in name for word in ("SECRET", "KEY"))
    ]
    assert len(secrets) >= 3
    # when everything is asked
    said = json.dumps([producer.control.broadcast(command, reply=True, timeout=2) for command in sorted(ALLOWED)])
    # then none is told
    assert not [secret for secret in secrets if secret and secret in said]


def test_a_reply_goes_to_replies_only(broker: "redis.Redis", producer: Celery) -> None:
    # given somebody who wants a reply in a place of his own
    elsewhere = {"exchange": "celery", "routing_key": str(uuid.uuid4())}
    command = {"method": "ping", "arguments": {}, "reply_to": elsewhere, "ticket": str(uuid.uuid4())}
    broker.sadd("_kombu.binding.celery", "\x06\x16".join([elsewhere["routing_key"], "", "stolen"]))
    # when the workers are asked so, and have answered somebody else after that
    broker.publish("/1.celery.pidbox", envelope(command, {}))
    assert len(producer.control.ping(timeout=2)) == 4
    # then nothing has come there
    assert broker.exists("stolen") == 0
    broker.srem("_kombu.binding.celery", "\x06\x16".join([elsewhere["routing_key"], "", "stolen"]))


def test_a_named_worker_answers_alone(producer: Celery) -> None:
    # given a destination / when it is asked / then it alone answers
    name = f"gpu-1@{socket.gethostname()}"
    assert producer.control.ping(destination=[name], timeout=2) == [{name: {"ok": "pong"}}]
    # and an empty list of destinations is everybody, as in Celery
    assert len(producer.control.ping(destination=[], timeout=2)) == 4


def test_an_election_over_gossip_runs_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    # given a worker that is started without the Procfile's flags, with which Celery would gossip: a winner of an
    # election runs a task of whoever has called it
    event = {
        "id": "x", "clock": 0, "hostname": "a", "pid": 1, "topic": "task", "cver": 1, "type": "worker-elect",
        "action": {"task": "tasks.render", "args": [], "kwargs": {"prompt": "elected", **SMALL}, "options": {}},
    }  # fmt: skip
    url = redis_server.url(7)
    app = make_celery(settings_of({"broker_url": url}))
    with redis.Redis.from_url(url) as broker:
        broker.flushdb()
        environment = {"OVERSPILL_LEDGER_URL": redis_server.url(0), "OVERSPILL_BROKER_URL": url}
        with running_worker(tmp_path, queues="render", environment=environment, app=app) as worker:
            # when somebody stands for election / then the worker does not listen
            assert broker.publish("/7.celeryev/worker.elect", envelope(event, {})) == 0
            assert worker.lives
    app.close()
