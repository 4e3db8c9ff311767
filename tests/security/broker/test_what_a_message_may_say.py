"""Only the name of a task and its validated arguments count, whatever else a message says."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery
from celery.canvas import Signature

from ledger import Kind, State
from ledger.models import RenderJob
from tests.integration.flow.conftest import Whole
from tests.security.broker.conftest import SMALL, accepted
from tests.support.kombu_messages import envelope
from tests.support.waiting import until

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("unharmed")]


def test_time_limits_of_nudges_end_nobodys_render(whole: Whole, producer: Celery) -> None:
    # given renders that take longer than a second
    fields = {"seconds": "8", "size": "1024x1792", "burst": "never"}
    ids = [whole.ledger.jobs.submit(_render(f"long {number}", **fields), source="client").job_id for number in (1, 2)]
    # when somebody sends nudges that want everything over within a second
    for _ in range(60):
        producer.send_task(
            "tasks.run_inhouse", kwargs={"kind": "render"}, queue="inhouse.render", time_limit=1, soft_time_limit=0.5
        )
    producer.send_task("tasks.dispatch", kwargs={"kind": "render"}, queue="render")
    # then both renders complete in their first attempt
    for job_id in ids:
        record = whole.ended(job_id, timeout_s=120)
        assert (record.state, record.attempt) == (State.COMPLETED, 1), record


#: What a sender may say with a render, none of which counts.
SAID: dict[str, dict[str, Any]] = {
    "hard time limit": {"time_limit": 0.001},
    "soft time limit": {"soft_time_limit": 0.001},
    "eta": {"countdown": 3600},
    "expiry": {"expires": 0.001},
    "retries": {"retries": 1000},
    "shadow name": {"shadow": "tasks.train"},
    "reply-to": {"reply_to": "somebody.elses.queue"},
    "priority": {"priority": 9},
    "group": {"group_id": str(uuid.uuid4()), "group_index": 2},
    "root and parent": {"root_id": "x", "parent_id": "y"},
    "compression": {"compression": "zlib"},
    "results wanted": {"ignore_result": False},
    "header: timelimit": {"headers": {"timelimit": [0.001, 0.001]}},
    "header: a limit of a wrong type": {"headers": {"timelimit": "soon"}},
    "header: eta of a wrong type": {"headers": {"eta": [1], "expires": {}}},
    "header: stamps": {"headers": {"stamped_headers": ["a"], "stamps": {"a": "b"}}},
    "header: language": {"headers": {"lang": "cobol"}},
    "header: delivery": {"headers": {"delivery_info": {"is_eager": True}, "is_eager": True}},
    "header: representation": {"headers": {"argsrepr": 7, "kwargsrepr": ["\ud800"]}},
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_a_sender_decides_about_its_arguments_only(whole: Whole, producer: Celery, said: dict[str, Any]) -> None:
    # given a render from a bare sender / when it comes with a word about how it is to be run
    prompt = f"said {uuid.uuid4()}"
    producer.send_task("tasks.render", kwargs={"prompt": prompt, **SMALL}, **said)
    # then it is accepted all the same
    assert accepted(whole, prompt).id
    # and nobody else has got anything
    with redis.Redis.from_url(whole.stack.redis.url(1)) as raw:
        assert raw.exists("somebody.elses.queue") == 0


@pytest.mark.parametrize("way", ["link", "link_error", "chain", "chord"])
def test_no_message_has_another_sent(whole: Whole, producer: Celery, way: str) -> None:
    # given a message that asks for another after itself
    prompt, after = f"first {uuid.uuid4()}", f"after {uuid.uuid4()}"
    other = Signature("tasks.render", kwargs={"prompt": after, **SMALL}, immutable=True, app=producer)
    wrong = {"prompt": ""} if way == "link_error" else {"prompt": prompt, **SMALL}
    # when it is sent, and a good one behind it
    producer.send_task("tasks.render", kwargs=wrong, **{way: [other] if way != "chord" else other})
    producer.send_task("tasks.render", kwargs={"prompt": prompt + " last", **SMALL})
    # then it itself is taken, the other is not sent
    accepted(whole, prompt + " last")
    if way != "link_error":
        whole.ended(accepted(whole, prompt).id)
    assert not [record for record in whole.ledger.jobs.page(Kind.RENDER, limit=100).records if after in record.spec]


@pytest.mark.parametrize(
    ("task", "queue", "kwargs", "reason"),
    [
        # A GPU's work would run in the dispatcher, without a slot.
        ("tasks.run_inhouse", "render", {"kind": "render"}, "wrong_queue"),
        ("tasks.spawn_overflow", "inhouse.render", {"kind": "render"}, "wrong_queue"),
        ("tasks.render", "overflow", {"prompt": "x"}, "wrong_queue"),
        ("tasks.dispatch", "inhouse.render", {"kind": "render"}, "wrong_queue"),
        # Celery's own tasks call others.
        ("celery.starmap", "render", {"task": {"task": "tasks.run_inhouse"}, "it": [[]]}, "unknown_task"),
        ("celery.chunks", "render", {"task": {"task": "tasks.render"}, "it": [[]], "n": 1}, "unknown_task"),
        ("celery.chord_unlock", "render", {"group_id": "x", "callback": {}}, "unknown_task"),
        ("celery.backend_cleanup", "celery", {}, "unknown_task"),
        ("tasks.dispatch", "render", {"kind": "render", "self": 1}, "invalid_task"),
        ("tasks.dispatch", "render", {"kind": "render", "limit": 1}, "invalid_nudge"),
    ],
)
def test_a_task_runs_where_it_belongs(
    producer: Celery,
    dropped: Callable[[str], int],
    task: str,
    queue: str,
    kwargs: dict[str, Any],
    reason: str,
) -> None:
    # given a worker of each queue / when it gets a task that is not its own
    producer.send_task(task, kwargs=kwargs, queue=queue)
    # then it drops it under its name
    until(lambda: dropped(reason), lambda number: number == 1, timeout_s=20)


def test_the_older_forms_of_a_task_message_are_taken(whole: Whole, broker: "redis.Redis") -> None:
    # given what Celery calls protocol 1, and a mixture of it with 2, each with a limit
    prompts = [f"protocol {uuid.uuid4()}" for _ in range(2)]
    bodies: list[dict[str, Any]] = [
        {"task": "tasks.render", "id": str(uuid.uuid4()), "args": [], "timelimit": [0.001, 0.001], "eta": "2999-01-01"},
        {"args": [], "timelimit": [0.001, 0.001], "expires": "1999-01-01"},
    ]
    headers: list[dict[str, Any]] = [{}, {"task": "tasks.render", "id": str(uuid.uuid4())}]
    # when they are sent
    for prompt, body, header in zip(prompts, bodies, headers, strict=True):
        broker.lpush("render", envelope({**body, "kwargs": {"prompt": prompt, **SMALL}}, header))
    # then they are taken, without their limits
    for prompt in prompts:
        accepted(whole, prompt)


def _render(prompt: str, **fields: str) -> RenderJob:
    return RenderJob.model_validate({"prompt": prompt, **fields})
