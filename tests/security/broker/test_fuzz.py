"""Whatever bytes come: a value comes out, and what is taken is exactly what we would have written ourselves."""

import base64
import json
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu.utils.json import loads

from workers.control import ALLOWED, CONTROL_EXCHANGE, REPLY_EXCHANGE, read_command, read_other
from workers.messages import MAX_DEPTH, MAX_ID_CHARS, QUEUES_OF_TASK, TASK_QUEUES, Reason, Refused, Taken, read_task

MAX_BYTES = 20_000
QUEUES = sorted(TASK_QUEUES)
KEYS = ("a-key-that-nobody-knows",)
pytestmark = pytest.mark.timeout(120)

#: Seeded and bounded: the same examples every time.
steady = settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

#: Lone surrogates too: JSON can say them.
texts = st.text(st.characters(codec=None), max_size=30)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.just(10**400) | st.just("\ud800")
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)
typed = st.fixed_dictionaries(
    {"__type__": st.sampled_from(["datetime", "uuid", "decimal", "bytes", "base64", "x"]), "__value__": values}
)
names = st.sampled_from([*QUEUES_OF_TASK, "celery.starmap", "celery.chord_unlock"]) | values
kwargs = st.just({"kind": "render"}) | st.dictionaries(texts, values | typed, max_size=4) | values
bodies = (
    st.tuples(st.just([]) | values, kwargs, st.just({}) | values).map(list)
    | st.fixed_dictionaries({}, optional={"task": names, "id": texts, "args": values, "kwargs": kwargs})
    | values
)
headers = (
    st.fixed_dictionaries(
        {},
        optional={
            "task": names,
            "id": texts,
            "timelimit": values,
            "eta": values,
            "expires": values,
            "retries": values,
            "shadow": values,
            "stamps": values,
            "compression": st.sampled_from(["zlib", "gzip", "bzip2", "lzma"]) | values,
            "overspill_signature": values,
        },
    )
    | values
)


TOO_MUCH = (b"[" * 2000, zlib.compress(bytes(200_000)))


@st.composite
def messages(draw: st.DrawFn, of: st.SearchStrategy[Any] = bodies) -> bytes:
    """Kombu's envelope, with anything in any of its parts."""
    raw = json.dumps(draw(of)).encode("utf-8", "surrogatepass")
    raw = draw(st.sampled_from([raw, zlib.compress(raw), raw[:-1], *TOO_MUCH]))
    properties = draw(
        st.fixed_dictionaries(
            {}, optional={"body_encoding": st.just("base64") | values, "delivery_tag": values, "reply_to": values}
        )
        | values
    )
    whole = {
        "body": draw(st.just(base64.b64encode(raw).decode()) | texts | values),
        "content-type": draw(st.just("application/json") | values),
        "headers": draw(headers),
        "properties": draw(st.just({"body_encoding": "base64"}) | st.just(properties)),
    }
    left_out = draw(st.sampled_from(["", "", "", *whole]))
    return json.dumps({name: part for name, part in whole.items() if name != left_out}).encode()


def check_task(read: Taken | Refused, queue: str) -> None:
    match read:
        case Refused(reason, detail):
            assert reason in set(Reason)
            assert isinstance(detail, str)
        case Taken(envelope):
            said = envelope["headers"]
            assert queue in QUEUES_OF_TASK[said["task"]]
            assert 0 < len(said["id"]) <= MAX_ID_CHARS
            assert (said["timelimit"], said["eta"], said["expires"], said["retries"]) == ([None, None], None, None, 0)
            assert not any(said[name] for name in ("shadow", "group", "parent_id", "stamps", "stamped_headers"))
            assert "compression" not in said
            assert envelope["properties"]["reply_to"] == ""
            assert envelope["properties"]["priority"] == 0
            # Celery reads it again, with all that its JSON can make of a value, and gets the same plain one.
            raw = base64.b64decode(envelope["body"])
            args, kwargs_read, embedded = loads(raw)
            assert [args, kwargs_read, embedded] == json.loads(raw)
            assert not any(embedded.values())
            assert _depth(kwargs_read) <= MAX_DEPTH
            json.dumps(envelope, ensure_ascii=False).encode("utf-8")


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


@steady
@given(raw=st.binary(max_size=300), queue=st.sampled_from(QUEUES))
def test_any_bytes(raw: bytes, queue: str) -> None:
    # given any bytes / when they are read as each kind of message / then a value comes out
    check_task(read_task(raw, queue, max_bytes=MAX_BYTES), queue)
    assert isinstance(read_command(raw, max_bytes=MAX_BYTES), Refused)
    assert isinstance(read_other(raw, max_bytes=MAX_BYTES), Taken | Refused)


@steady
@given(raw=messages(), queue=st.sampled_from(QUEUES))
def test_any_message(raw: bytes, queue: str) -> None:
    # given anything in kombu's envelope / when it is read / then what is taken is what we would have written
    check_task(read_task(raw, queue, max_bytes=MAX_BYTES), queue)


@steady
@given(raw=messages(), queue=st.sampled_from(["inhouse.render", "inhouse.train", "overflow"]))
def test_nobody_guesses_a_signature(raw: bytes, queue: str) -> None:
    # given workers of nudges only, which want them signed / when anything comes / then none of it is taken
    assert isinstance(read_task(raw, queue, max_bytes=MAX_BYTES, nudge_keys=KEYS), Refused)


@steady
@given(
    raw=messages(
        st.fixed_dictionaries(
            {"method": st.sampled_from([*ALLOWED, "shutdown", "revoke", "election"]) | values},
            optional={
                "arguments": st.dictionaries(st.sampled_from(["safe", "taskinfoitems", "x"]), values) | values,
                "destination": st.lists(texts, max_size=3) | values,
                "pattern": values,
                "matcher": values,
                "ticket": st.uuids().map(str) | values,
                "reply_to": st.fixed_dictionaries({"exchange": texts, "routing_key": st.uuids().map(str) | values})
                | values,
            },
        )
    )
)
def test_any_command(raw: bytes) -> None:
    # given any command / when it is read / then it looks only, and answers where answers go
    read = read_command(raw, max_bytes=MAX_BYTES)
    if isinstance(read, Taken):
        said = json.loads(base64.b64decode(read.envelope["body"]))
        assert said["method"] in ALLOWED
        assert said["arguments"].keys() <= ALLOWED[said["method"]]
        assert (said["pattern"], said["matcher"]) == (None, None)
        assert said["reply_to"] is None or said["reply_to"]["exchange"] == REPLY_EXCHANGE
        assert read.envelope["properties"]["delivery_info"]["exchange"] == CONTROL_EXCHANGE
        assert read.envelope["headers"] == {}


def test_the_fuzz_takes_some() -> None:
    # given a good message / when it is read / then it is taken: or the fuzz would show nothing
    good = {
        "body": base64.b64encode(b'[[], {"prompt": "x"}, {}]').decode(),
        "content-type": "application/json",
        "headers": {"task": "tasks.render", "id": "x"},
        "properties": {"body_encoding": "base64"},
    }
    read = read_task(json.dumps(good).encode(), "render", max_bytes=MAX_BYTES)
    assert isinstance(read, Taken)
    check_task(read, "render")


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ({"__type__": "datetime", "__value__": "2026-11-29T00:00:00"}, "2026-11-29T00:00:00"),
        ({"__type__": "decimal", "__value__": "4"}, "4"),
        ({"__type__": "uuid", "__value__": {"hex": "00" * 16}}, "00" * 16),
        ({"__type__": "x"}, {"__type__": "x"}),
    ],
)
def test_typed_values_of_kombus_are_text(said: object, plain: object) -> None:
    # given a sender whose Celery writes a value of Python's / when it is read / then it is the text of it
    message = {
        "body": json.dumps([[], {"prompt": said}, {}]),
        "content-type": "application/json",
        "headers": {"task": "tasks.render", "id": "x"},
        "properties": {},
    }
    read = read_task(json.dumps(message).encode(), "render", max_bytes=MAX_BYTES)
    assert isinstance(read, Taken)
    assert json.loads(base64.b64decode(read.envelope["body"]))[1] == {"prompt": plain}
