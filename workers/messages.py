"""What a message from the broker may say: the name of a task of ours, an id, and plain arguments. All else is ours.

Everybody who can write to the broker can write anything there. So a message is read here, once, before Celery and
kombu see it: sizes are bounded before anything is decoded, and what comes out is a new message that we have written.
Time limits, eta, expiry, retries, callbacks, chains, chords, groups, compression, reply-to, priority, shadow names and
stamps are those of our own configuration, whatever the sender has said about them.

Pure: no Celery, no Redis, no clock. An outcome is a value: `Taken` or `Refused`.
"""

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

from ledger.models import Kind
from ledger.nudges import DISPATCH_TASK, INHOUSE_TASK, OVERFLOW_QUEUE, SIGNATURE_HEADER, SPAWN_TASK, Nudge, is_signed

#: Where a bare `send_task` without a queue lands (infra/celery_config.py).
DEFAULT_QUEUE = "celery"
#: Arguments may be nested so deep. Jobs are flat.
MAX_DEPTH = 16
#: The longest id of a task, in characters: it becomes a part of an idempotency key, which has 255.
MAX_ID_CHARS = 200
#: Integers of arguments are within this, either side of zero.
MAX_INT = 2**63 - 1
#: How much of the arguments events and logs may show, in characters.
_REPR_CHARS = 1024

_DISPATCH_QUEUES = frozenset({*(str(kind) for kind in Kind), DEFAULT_QUEUE})
#: Which tasks may arrive on which queues. A GPU's task on a dispatcher's queue would run there, without a slot.
QUEUES_OF_TASK: Mapping[str, frozenset[str]] = {
    "tasks.render": _DISPATCH_QUEUES,
    "tasks.train": _DISPATCH_QUEUES,
    DISPATCH_TASK: _DISPATCH_QUEUES,
    INHOUSE_TASK: frozenset(f"inhouse.{kind}" for kind in Kind),
    SPAWN_TASK: frozenset({OVERFLOW_QUEUE}),
}
_NUDGES = frozenset({DISPATCH_TASK, INHOUSE_TASK, SPAWN_TASK})
TASK_QUEUES = frozenset(queue for queues in QUEUES_OF_TASK.values() for queue in queues)

_JSON = "application/json"
#: What Celery calls zlib. Other compressions are refused: their decoders have no bound that we could set.
_ZLIB = frozenset({"application/x-gzip", "gzip", "zlib"})
#: Kombu writes these values of Python as `{"__type__": ..., "__value__": ...}`; as plain text they say the same.
_TEXTUAL_TYPES = frozenset({"datetime", "date", "time", "decimal"})


class Reason(StrEnum):
    """Why a message was refused: the label of `overspill_messages_dropped_total`."""

    TOO_LARGE = "too_large"
    NOT_AN_ENVELOPE = "not_an_envelope"
    UNDECODABLE = "undecodable"
    NOT_A_TASK = "not_a_task"
    UNKNOWN_TASK = "unknown_task"
    INVALID_TASK = "invalid_task"
    WRONG_QUEUE = "wrong_queue"
    INVALID_NUDGE = "invalid_nudge"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"
    CONTROL_REFUSED = "control_refused"


@dataclass(frozen=True)
class Taken:
    """A message that we have written anew, as kombu's envelope."""

    envelope: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """A message that is dropped. `detail` says what was wrong, without the message itself."""

    reason: Reason
    detail: str
    task: str = ""


class Unacceptable(Exception):
    """Part of a message is not as it must be; ends in a `Refused` within this module and its neighbour."""

    def __init__(self, reason: Reason, detail: str, task: str = "") -> None:
        self.refused = Refused(reason, detail, task)
        super().__init__(detail)


def read_task(raw: bytes, queue: str, *, max_bytes: int, nudge_keys: tuple[str, ...] = ()) -> Taken | Refused:
    """Read what was popped from one of our queues.

    Args:
        raw: the bytes.
        queue: whose they were.
        max_bytes: longest message, and longest body after decompression, bytes.
        nudge_keys: the keys of nudges; empty: nudges need no signature.
    """
    try:
        envelope = open_envelope(raw, max_bytes=max_bytes)
        return Taken(_task(envelope, queue, max_bytes=max_bytes, nudge_keys=nudge_keys))
    except Unacceptable as error:
        return error.refused
    except Exception as error:  # noqa: BLE001  # what garbage can raise is anything: RecursionError, MemoryError, ...
        return Refused(Reason.NOT_AN_ENVELOPE, f"{type(error).__name__}: {error}")


def open_envelope(raw: bytes, *, max_bytes: int) -> dict[str, Any]:
    """Kombu's envelope, with its headers and properties as mappings, whatever is in them.

    Raises:
        Unacceptable: it is too long, or is no envelope.
    """
    if len(raw) > max_bytes:
        raise Unacceptable(Reason.TOO_LARGE, f"expected {max_bytes} bytes at most, got {len(raw)}")
    envelope = _decoded(raw, Reason.NOT_AN_ENVELOPE)
    if not isinstance(envelope, dict):
        raise Unacceptable(Reason.NOT_AN_ENVELOPE, f"expected a JSON object, got {type(envelope).__name__}")
    for part in ("headers", "properties"):
        if not isinstance(envelope.get(part) or {}, dict):
            raise Unacceptable(Reason.NOT_AN_ENVELOPE, f"expected an object as {part}")
    if not isinstance(envelope.get("body"), str) or not isinstance(envelope.get("properties"), dict):
        raise Unacceptable(Reason.NOT_AN_ENVELOPE, "expected a text as body, and properties")
    return envelope


def open_body(envelope: Mapping[str, Any], *, max_bytes: int) -> Any:
    """The decoded, plain body of an envelope.

    Raises:
        Unacceptable: it is no JSON, too long after decompression, nested too deep, or holds what is not plain.
    """
    if envelope.get("content-type") != _JSON:
        raise Unacceptable(Reason.UNDECODABLE, "expected the content type application/json")
    body: bytes = envelope["body"].encode(errors="replace")
    if envelope["properties"].get("body_encoding") == "base64":
        try:
            body = base64.b64decode(body, validate=True)
        except ValueError as error:
            raise Unacceptable(Reason.UNDECODABLE, f"expected base64: {error}") from error
    compression = (envelope.get("headers") or {}).get("compression")
    if compression:
        body = _decompressed(body, compression, max_bytes=max_bytes)
    return _plain(_decoded(body, Reason.UNDECODABLE))


def new_envelope(body: object, *, headers: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    """An envelope of ours."""
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": _JSON,
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {"body_encoding": "base64", "delivery_mode": 2, "priority": 0, **properties},
    }


def _decompressed(body: bytes, compression: object, *, max_bytes: int) -> bytes:
    if not isinstance(compression, str) or compression not in _ZLIB:
        raise Unacceptable(Reason.UNDECODABLE, "expected no compression, or zlib")
    decompressor = zlib.decompressobj()
    try:
        whole = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Unacceptable(Reason.UNDECODABLE, f"expected zlib: {error}") from error
    if len(whole) > max_bytes:
        raise Unacceptable(Reason.TOO_LARGE, f"expected a body of {max_bytes} bytes at most after decompression")
    if not decompressor.eof:
        raise Unacceptable(Reason.UNDECODABLE, "expected a whole zlib stream")
    return whole


def _decoded(text: bytes, reason: Reason) -> Any:
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unacceptable(reason, f"expected JSON: {type(error).__name__}: {error}") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _plain(value: Any, depth: int = 0) -> Any:
    """The same value, of plain parts only: no type of Python's is made of it, now or later."""
    if depth > MAX_DEPTH:
        raise Unacceptable(Reason.UNDECODABLE, f"expected at most {MAX_DEPTH} levels")
    match value:
        case list():
            return [_plain(item, depth + 1) for item in value]
        case dict() if value.keys() == {"__type__", "__value__"}:
            return _as_text(value["__type__"], value["__value__"])
        case dict() if all(_is_text(name) for name in value):
            return {name: _plain(item, depth + 1) for name, item in value.items()}
        case _ if _is_plain_part(value):
            return value
        case _:
            raise Unacceptable(Reason.UNDECODABLE, f"expected plain JSON, got a {type(value).__name__} out of bounds")


def _is_plain_part(value: object) -> bool:
    match value:
        case str():
            return _is_text(value)
        case bool() | None:
            return True
        case int():
            return abs(value) <= MAX_INT
        case float():
            return math.isfinite(value)
        case _:
            return False


def _as_text(kind: object, said: object) -> str:
    if kind == "uuid" and isinstance(said, dict) and said.keys() == {"hex"}:
        said = said["hex"]
    elif not isinstance(kind, str) or kind not in _TEXTUAL_TYPES:
        raise Unacceptable(Reason.UNDECODABLE, "expected plain JSON, got a typed value that we do not take")
    if not isinstance(said, str) or not _is_text(said):
        raise Unacceptable(Reason.UNDECODABLE, "expected a typed value in text")
    return said


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8: a lone surrogate cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _task(envelope: dict[str, Any], queue: str, *, max_bytes: int, nudge_keys: tuple[str, ...]) -> dict[str, Any]:
    headers: dict[str, Any] = envelope.get("headers") or {}
    body = open_body(envelope, max_bytes=max_bytes)
    # Protocol 2 names the task in the headers, protocol 1 in the body; both, and mixtures of them, are in use.
    named = headers if "task" in headers else body if isinstance(body, dict) else {}
    task, task_id = named.get("task"), named.get("id")
    if not isinstance(task, str):
        raise Unacceptable(Reason.NOT_A_TASK, "expected the name of a task")
    queues = QUEUES_OF_TASK.get(task)
    if queues is None:
        raise Unacceptable(Reason.UNKNOWN_TASK, "expected a task of ours", task)
    if queue not in queues:
        raise Unacceptable(Reason.WRONG_QUEUE, f"expected it on {', '.join(sorted(queues))}, got it on {queue}", task)
    if not isinstance(task_id, str) or not 0 < len(task_id) <= MAX_ID_CHARS or not task_id.isprintable():
        raise Unacceptable(Reason.INVALID_TASK, f"expected an id of 1 to {MAX_ID_CHARS} characters", task)
    args, kwargs = _arguments(body, task)
    ours = _headers_of(task, task_id, args, kwargs)
    if task in _NUDGES:
        nudge = _nudge(queue, task, args, kwargs)
        if nudge_keys:
            ours[SIGNATURE_HEADER] = _signature(nudge, task_id, headers, nudge_keys)
    return new_envelope(
        [args, kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        headers=ours,
        properties={
            "correlation_id": task_id,
            "reply_to": "",
            "delivery_tag": task_id,
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    )


def _arguments(body: object, task: str) -> tuple[list[Any], dict[str, Any]]:
    args: object = None
    kwargs: object = None
    match body:
        case [args, kwargs, dict()]:
            pass
        case dict():
            args, kwargs = body.get("args", []), body.get("kwargs", {})
        case _:
            pass
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unacceptable(Reason.INVALID_TASK, "expected arguments as a list and a mapping", task)
    if "self" in kwargs:
        raise Unacceptable(Reason.INVALID_TASK, "expected no argument named self: Celery has one of its own", task)
    return args, kwargs


def _headers_of(task: str, task_id: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every header that Celery reads, as we want it."""
    return {
        "lang": "py",
        "task": task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "group_index": None,
        "shadow": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "argsrepr": repr(args)[:_REPR_CHARS],
        "kwargsrepr": repr(kwargs)[:_REPR_CHARS],
        "origin": None,
        "stamped_headers": None,
        "stamps": {},
    }


def _nudge(queue: str, task: str, args: list[Any], kwargs: dict[str, Any]) -> Nudge:
    kind = kwargs.get("kind")
    if args or kwargs.keys() != {"kind"} or not isinstance(kind, str) or kind not in set(Kind):
        raise Unacceptable(Reason.INVALID_NUDGE, "expected kind=render or kind=train, and nothing else", task)
    return Nudge(queue=queue, task=task, kind=Kind(kind))


def _signature(nudge: Nudge, task_id: str, headers: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    signature = headers.get(SIGNATURE_HEADER)
    if signature is None:
        raise Unacceptable(Reason.UNSIGNED, "expected a signed nudge", nudge.task)
    if not isinstance(signature, str) or not is_signed(keys, nudge, message_id=task_id, signature=signature):
        raise Unacceptable(Reason.BAD_SIGNATURE, "expected a signature by one of our keys", nudge.task)
    return signature
