"""What is done to the broker's lists, on a real Redis."""

import json
import random
from collections.abc import Iterator

import pytest
import redis

from tests.chaos.messages import Messages
from tests.support.redis_server import RedisServer


def _raw(task: str, number: int) -> bytes:
    return json.dumps({"headers": {"task": task, "id": str(number)}, "body": ""}).encode()


@pytest.fixture
def broker(redis_server: RedisServer) -> Iterator["redis.Redis"]:
    with redis.Redis(port=redis_server.port, db=9) as client:
        client.flushdb()
        yield client
        client.flushdb()


def _waiting(broker: "redis.Redis", queue: str) -> list[bytes]:
    return [raw for raw in broker.lrange(queue, 0, -1) if isinstance(raw, bytes)]


def test_what_waits_is_doubled(broker: "redis.Redis") -> None:
    broker.lpush("render", _raw("tasks.render", 1))
    broker.lpush("overflow", _raw("tasks.spawn_overflow", 2))
    assert Messages(broker, random.Random(1)).duplicate(10) == 2
    assert _waiting(broker, "render") == [_raw("tasks.render", 1)] * 2
    assert _waiting(broker, "overflow") == [_raw("tasks.spawn_overflow", 2)] * 2


def test_the_longest_queue_is_reordered_and_nothing_of_it_is_lost(broker: "redis.Redis") -> None:
    sent = [_raw("tasks.render", number) for number in range(30)]
    broker.rpush("render", *sent)
    broker.lpush("overflow", _raw("tasks.spawn_overflow", 2))
    assert Messages(broker, random.Random(1)).reorder(10) == "30 in render"
    now = _waiting(broker, "render")
    assert sorted(now) == sorted(sent)
    assert now != sent


def test_a_short_queue_is_filled_with_doubles_first(broker: "redis.Redis") -> None:
    broker.rpush("render", _raw("tasks.render", 1), _raw("tasks.render", 2))
    assert Messages(broker, random.Random(1)).reorder(8) == "8 in render"
    assert set(_waiting(broker, "render")) == {_raw("tasks.render", 1), _raw("tasks.render", 2)}


def test_nudges_are_lost_and_what_others_sent_is_not(broker: "redis.Redis") -> None:
    foreign = _raw("tasks.render", 1)
    broker.rpush("render", _raw("tasks.dispatch", 2), foreign, _raw("tasks.dispatch", 3))
    broker.rpush("inhouse.render", _raw("tasks.run_inhouse", 4), b"no message at all")
    assert Messages(broker, random.Random(1)).lose_nudges(10) == "4 nudges"
    assert _waiting(broker, "render") == [foreign]
    assert _waiting(broker, "inhouse.render") == []


def test_where_nothing_waits_nothing_is_done(broker: "redis.Redis") -> None:
    messages = Messages(broker, random.Random(1))
    assert (messages.duplicate(5), messages.reorder(5), messages.lose_nudges(5)) == (0, None, None)
