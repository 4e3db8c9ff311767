"""No message ends a worker, whatever its bytes are, and none makes it take much memory."""

import base64
import bz2
import gzip
import json
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from celery import Celery

from tests.integration.flow.conftest import Whole
from tests.security.broker.conftest import SMALL, accepted
from tests.support.kombu_messages import envelope, task
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("unharmed")]

DEEP = b"[" * 200_000


def _bomb(megabytes: int) -> bytes:
    compressor, megabyte = zlib.compressobj(9), bytes(1_000_000)
    return b"".join([*(compressor.compress(megabyte) for _ in range(megabytes)), compressor.flush()])


#: 408 kB that are 420 MB.
BOMB = _bomb(420)
GARBAGE: dict[str, tuple[bytes, str]] = {
    "nested brackets": (DEEP, "not_an_envelope"),
    "nested objects": (b'{"a":' * 200_000, "not_an_envelope"),
    "nested brackets as the body": (envelope(DEEP, task()), "undecodable"),
    "nested headers": (envelope(b"[]", None).replace(b"null", b"[" * 900 + b"]" * 900), "not_an_envelope"),
    "a body nested as deep as JSON is read": (
        envelope(b'[[], {"prompt": ' + b"[" * 400 + b"]" * 400 + b"}, {}]", task()), "undecodable",
    ),
    "a body that grows by zlib": (envelope(BOMB, task(compression="zlib")), "too_large"),
    "a body that grows, by its other name": (envelope(BOMB, task(compression="application/x-gzip")), "too_large"),
    "a body that grows by bzip2": (
        envelope(bz2.compress(bytes(50_000_000)), task(compression="bzip2")), "undecodable",
    ),
    "a body that grows by lzma": (
        envelope(lzma.compress(bytes(50_000_000)), task(compression="lzma")), "undecodable",
    ),
    "gzip, which is not Celery's gzip": (envelope(gzip.compress(b"[]"), task(compression="gzip")), "undecodable"),
    "a cut zlib stream": (envelope(zlib.compress(b"[[], {}, {}]")[:-5], task(compression="zlib")), "undecodable"),
    "a compression of a wrong type": (envelope(b"x", task(compression=["zlib"])), "undecodable"),
    "an unknown compression": (envelope(b"x", task(compression="nothing")), "undecodable"),
    "no base64": (envelope([], task(), body="\udcff?=="), "undecodable"),
    "a body that is a number": (envelope([], task(), body=7), "not_an_envelope"),
    "properties that are a text": (envelope([], task(), properties="x"), "not_an_envelope"),
    "no properties": (envelope([], task(), properties=None), "not_an_envelope"),
    "headers that are a list": (envelope([], ["task"]), "not_an_envelope"),
    "an unknown body encoding": (envelope([], task(), properties={"body_encoding": "rot13"}), "undecodable"),
    "a body of latin-1": (envelope(b'[[], {"prompt": "\xe9"}, {}]', task()), "undecodable"),
    "a body of UTF-16": (envelope("[[], {}, {}]".encode("utf-16"), task()), "undecodable"),
    "a lone surrogate": (envelope(b'[[], {"prompt": "\\ud800"}, {}]', task()), "undecodable"),
    "a lone surrogate as a name": (envelope(b'[[], {"\\udfff": 1}, {}]', task()), "undecodable"),
    "a task named by a lone surrogate": (envelope([[], {}, {}], task("\ud800")), "unknown_task"),
    "a task of another type": (envelope([[], {}, {}], {"task": {"a": 1}, "id": "x"}), "not_a_task"),
    "an id of another type": (envelope([[], {}, {}], {"task": "tasks.render", "id": ["x"]}), "invalid_task"),
    "no id": (envelope([[], {}, {}], {"task": "tasks.render"}), "invalid_task"),
    "an id without end": (envelope([[], {}, {}], {"task": "tasks.render", "id": "x" * 70_000}), "invalid_task"),
    "a number without end": (envelope(b"[[], {}, {}, " + b"9" * 5000 + b"]", task()), "undecodable"),
    "a number out of bounds": (envelope(b'[[], {"seed": 1' + b"0" * 400 + b"}, {}]", task()), "undecodable"),
    "infinity": (envelope(b'[[], {"deadline_s": 1e999}, {}]', task()), "undecodable"),
    "not a number": (envelope(b'[[], {"deadline_s": NaN}, {}]', task()), "undecodable"),
    "bytes by type": (
        envelope([[], {"prompt": {"__type__": "base64", "__value__": "eA=="}}, {}], task()), "undecodable",
    ),
    "a type that raises": (
        envelope([[], {"prompt": {"__type__": "uuid", "__value__": {"int": "x"}}}, {}], task()), "undecodable",
    ),
    "an unknown type": (envelope([[], {"prompt": {"__type__": "x", "__value__": 1}}, {}], task()), "undecodable"),
    "yaml": (envelope(b"!!python/object/apply:os.getcwd []", task(), **{"content-type": "application/x-yaml"}),
             "undecodable"),
    "no content type": (envelope([[], {}, {}], task(), **{"content-type": None}), "undecodable"),
    "a content type of another type": (envelope([[], {}, {}], task(), **{"content-type": {}}), "undecodable"),
    "arguments of another type": (envelope([{}, [], {}], task()), "invalid_task"),
    "too few parts": (envelope([[], {}], task()), "invalid_task"),
    "an argument that is `self`": (envelope([[], {"self": 1}, {}], task()), "invalid_task"),
    "NUL": (b"\x00", "not_an_envelope"),
    "nothing": (b"", "not_an_envelope"),
    "a little more than may be": (b'"' + b"x" * 1_048_576, "too_large"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "reason"), GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_on_a_queue_is_dropped_by_name(
    broker: "redis.Redis", dropped: Callable[[str], int], raw: bytes, reason: str
) -> None:
    # given a dispatcher / when garbage is on its queue
    broker.lpush("render", raw)
    # then it is dropped and counted, and the process lives (see the fixture)
    until(lambda: dropped(reason), lambda number: number == 1, timeout_s=20)


@pytest.mark.parametrize("queue", ["train", "celery", "inhouse.render", "inhouse.train", "overflow"])
def test_every_worker_bears_what_ended_one(
    whole: Whole, broker: "redis.Redis", producer: Celery, dropped: Callable[[str], int], queue: str
) -> None:
    # given each queue of each role, with its lists of other priorities / when the worst lies there
    for name in (queue, f"{queue}\x06\x163", f"{queue}\x06\x169"):
        broker.lpush(name, DEEP, envelope(BOMB, task(compression="zlib")), b"{}")
    # then all is dropped
    until(lambda: dropped("not_an_envelope"), lambda number: number == 6, timeout_s=30)
    until(lambda: dropped("too_large"), lambda number: number == 3, timeout_s=30)
    # and the next job goes its way
    prompt = f"after garbage on {queue}"
    producer.send_task("tasks.render", kwargs={"prompt": prompt, **SMALL, "burst": "never"})
    assert whole.ended(accepted(whole, prompt).id).artifact is not None


def test_a_message_of_64_megabytes_is_not_decoded(
    whole: Whole, broker: "redis.Redis", dropped: Callable[[str], int]
) -> None:
    # given the memory of a dispatcher
    pid = whole.stack.supervisor["dispatch.1"].pid
    # when a message of 64 MB comes that is JSON, and whose decoded form would be many times that
    broker.lpush("render", b"[" + b"{}," * 21_000_000 + b"{}]")
    # then it is dropped for its size, and the process has held the bytes and not much else
    until(lambda: dropped("too_large"), lambda number: number == 1, timeout_s=30)
    assert _peak_bytes(pid) < 700 * 1024**2


#: Published to all workers at once. Each refuses it, and lives.
PUBLISHED: dict[str, bytes] = {
    "nested brackets": DEEP,
    "no envelope": b"{}",
    "text": b"this is not json",
    "null": b"null",
    "bytes": b"\xff\xfe\x00",
    "a bomb": envelope(BOMB, {"compression": "zlib"}),
    "a clock without end": envelope({"method": "no_such"}, {"clock": 10**400}),
    "a body that is a list": envelope([1, 2], {}),
    "a body that is null": envelope(None, {}),
    "a method of another type": envelope({"method": ["ping"]}, {}),
    "a destination of another type": envelope({"method": "ping", "destination": 7}, {}),
    "a pattern that never ends": envelope(
        {"method": "ping", "pattern": "(a*)*" * 30 + "b", "matcher": "pcre", "arguments": {}}, {}
    ),
    "a reply to a queue": envelope(
        {"method": "ping", "reply_to": {"exchange": "", "routing_key": "render"}, "ticket": "t"}, {}
    ),
}


@pytest.mark.parametrize("raw", PUBLISHED.values(), ids=PUBLISHED.keys())
def test_garbage_that_is_published_is_refused_by_all(
    whole: Whole, broker: "redis.Redis", producer: Celery, raw: bytes
) -> None:
    # given workers that listen / when garbage is published to them
    before = _dropped_in_all(whole)
    listeners = broker.publish("/1.celery.pidbox", raw)
    assert listeners == 4
    # then each drops it
    until(lambda: _dropped_in_all(whole), lambda number: number == before + listeners, timeout_s=20)
    # and each still answers
    assert len(producer.control.ping(timeout=2)) == 4


@pytest.mark.parametrize("channel", ["/1.celery.pidbox/x/y", "/1.celery.pidbox"])
def test_what_is_published_under_another_key_is_no_connection_lost(
    whole: Whole, broker: "redis.Redis", channel: str
) -> None:
    # given a command that nobody may give / when it is published
    broker.publish(channel, envelope({"method": "shutdown"}, {}))
    # then no worker has lost its connection over it
    assert "Connection to broker lost" not in "".join(
        (whole.stack.folder.logs / f"{name}.log").read_text() for name in ("gpu.1", "gpu.2", "dispatch.1", "overflow.1")
    )


def _dropped_in_all(whole: Whole) -> int:
    return sum(number for name, number in whole.ledger.counters().items() if name.startswith("messages_dropped_total"))


def _peak_bytes(pid: int | None) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024


def test_these_bombs_would_be_large() -> None:
    # given the bombs of above / when they are opened by what Celery would use / then they are what they are said to be
    assert len(BOMB) < 1_000_000
    assert len(zlib.decompressobj().decompress(BOMB, 50_000_000)) == 50_000_000
    assert json.loads(base64.b64decode(json.loads(envelope({"a": 1}, {}))["body"])) == {"a": 1}
