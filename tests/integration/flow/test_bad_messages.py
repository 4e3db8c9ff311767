"""A message that makes no sense is logged, counted and dropped, and the worker lives on."""

import base64
import json

import redis
from celery import Celery

from ledger import Kind, State
from tests.integration.flow.conftest import Whole
from tests.support.waiting import until

TOTAL = "messages_dropped_total|reason="


def _envelope(body: bytes, headers: object, content_type: str = "application/json") -> bytes:
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-type": content_type,
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": {
                "body_encoding": "base64",
                "delivery_tag": "t",
                "delivery_info": {"exchange": "", "routing_key": "render"},
            },
        }
    ).encode()


def test_garbage_is_dropped_by_name_and_the_next_job_completes(whole: Whole) -> None:
    before = whole.ledger.counters()
    pids = {name: whole.stack.supervisor[name].pid for name in whole.stack.supervisor.names}
    broker = whole.stack.redis.url(1)
    # Given every kind of garbage on the queues of dispatchers, GPU workers and overflow workers
    app = Celery(broker=broker)
    wrong: dict[str, int] = {}

    def expect(reason: str) -> None:
        wrong[reason] = wrong.get(reason, 0) + 1

    for kwargs in (
        {},
        {"prompt": ""},
        {"prompt": "x", "seconds": "abc"},
        {"prompt": "x", "colour": "red"},
        {"job_id": "video_no"},
    ):
        app.send_task("tasks.render", kwargs=kwargs)
        expect("invalid_job")
    app.send_task("tasks.render", args=(1,), kwargs={"prompt": "x"})
    expect("positional_arguments")
    app.send_task("tasks.nothing_of_ours", queue="render")
    expect("unknown_task")
    app.send_task("tasks.render", kwargs={"prompt": "x"}, serializer="pickle")
    expect("undecodable")
    for task, queue in (
        ("tasks.dispatch", "render"), ("tasks.run_inhouse", "inhouse.render"), ("tasks.spawn_overflow", "overflow"),
    ):  # fmt: skip
        for kwargs in ({"job_id": "video_nope"}, {"kind": "paint"}, {"kind": ["render"]}):
            app.send_task(task, kwargs=kwargs, queue=queue)
            expect("invalid_nudge")
    with redis.Redis.from_url(broker) as raw:
        for queue in ("render", "inhouse.render", "overflow"):
            for garbage in (b"this is not json", b"\xff\xfe\x00", b"[1, 2]", b"null", b"7", b"{}"):
                raw.lpush(queue, garbage)
                expect("not_an_envelope")
        raw.lpush("render", _envelope(b"not json", {"lang": "py"}))
        expect("undecodable")
        raw.lpush("render", _envelope(b"[]", {"task": "tasks.render", "id": "x"}))
        expect("invalid_task")
        raw.lpush("render", _envelope(b"[[], 7, {}]", {"task": "tasks.render", "id": "x"}))
        expect("invalid_task")
    # And a good one behind them
    app.send_task("tasks.render", kwargs={"prompt": "after the garbage", "seconds": "1", "size": "320x180"})
    app.close()

    # Then each was counted under its name
    def counted() -> dict[str, int]:
        now = whole.ledger.counters()
        return {reason: now.get(TOTAL + reason, 0) - before.get(TOTAL + reason, 0) for reason in wrong}

    until(counted, lambda seen: all(seen[reason] >= number for reason, number in wrong.items()), timeout_s=30)

    # And the good one completes, by the very processes that were there before
    def last() -> str | None:
        records = whole.ledger.jobs.page(Kind.RENDER, limit=1).records
        return records[0].spec if records else None

    until(last, lambda spec: "after the garbage" in (spec or ""), timeout_s=30)
    record = whole.ledger.jobs.page(Kind.RENDER, limit=1).records[0]
    assert whole.ended(record.id).state is State.COMPLETED
    assert pids == {name: whole.stack.supervisor[name].pid for name in whole.stack.supervisor.names}
