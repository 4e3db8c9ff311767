"""Kombu's Redis transport, made to live on whatever lies on the broker.

Kombu decodes what it pops inside the consumer's loop, and there any error ends the worker. Anyone who can write to
Redis can put anything on a queue, publish anything to workers, or set a queue's key to something that is no list. Here
every message is read by `messages` and `control` first, and what they refuse is logged, counted and dropped.
"""

import uuid
from collections.abc import Callable
from queue import Empty
from time import monotonic
from typing import Any

import structlog
from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from infra.settings import settings
from workers.control import CONTROL_EXCHANGE, as_bytes, read_command, read_other
from workers.messages import TASK_QUEUES, Reason, Refused, Taken, read_task
from workers.wrong_types import WrongTypes, is_wrong_type

log = structlog.get_logger(__name__)

#: What means that the connection is lost. Kombu counts a KeyError among these, which garbage raises too.
CONNECTION_LOST = (RedisConnectionError, RedisTimeoutError, OSError)


class _ReadsCarefully:
    """What our channels add to kombu's. The parts of kombu that are written anew here are those of 5.7.0."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before kombu's own, which starts to use the channel.
        self._wrong_types = WrongTypes(self._types_of)
        super().__init__(*args, **kwargs)

    def _types_of(self: Any, keys: list[str]) -> list[str]:
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.type(key)
            return [_text(kind) for kind in pipe.execute()]

    def _brpop_keys(self: Any, queues: list[str]) -> list[str]:
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        keys = self._wrong_types.usable(self._brpop_keys(queues))
        if not keys:
            return  # asked again with the next round of the event loop, within a second
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        self.client.connection.send_command("BRPOP", *keys, timeout or self.brpop_timeout or 0)

    def _brpop_read(self: Any, **options: Any) -> bool:
        try:
            popped = self._popped(**options)
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not popped:
            raise Empty
        key, raw = popped
        queue = _text(key).rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        self._deliver_or_drop(self._read(raw, queue), lambda envelope: self.connection._deliver(envelope, queue))
        return True

    def _popped(self: Any, **options: Any) -> tuple[bytes, bytes] | None:
        """A key and what was popped from it; None if nothing came in time."""
        try:
            popped: tuple[bytes, bytes] | None = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except CONNECTION_LOST:
            # The next round of the event loop connects again.
            self.client.connection.disconnect()
            raise
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            self._wrong_types.look_at(self._brpop_keys(list(self.active_queues)))
            return None
        return popped

    def _read(self, raw: bytes, queue: str) -> Taken | Refused:
        values = settings()
        if queue in TASK_QUEUES:
            return read_task(
                raw, queue, max_bytes=values.celery.message_max_bytes, nudge_keys=values.ledger.keys_of_nudges
            )
        return read_other(raw, max_bytes=values.celery.message_max_bytes)

    def _deliver_or_drop(self, read: Taken | Refused, deliver: Callable[[dict[str, Any]], None]) -> None:
        match read:
            case Taken(envelope):
                envelope["properties"]["delivery_tag"] = str(uuid.uuid4())
                deliver(envelope)
            case Refused(reason, detail, task):
                _drop(reason, detail, task)

    def _handle_message(self: Any, client: Any, response: Any) -> dict[str, Any]:
        """What was published to us. What is refused has no data any more, and kombu passes over it."""
        payload: dict[str, Any] = super()._handle_message(client, response)  # type: ignore[misc]  # not in the stubs
        if not _text(payload["type"]).endswith("message") or not payload["data"]:
            return payload
        exchange = _text(payload["channel"]).partition(".")[2].split("/", 1)[0]
        read = read_command if exchange == CONTROL_EXCHANGE else read_other
        match read(_bytes(payload["data"]), max_bytes=settings().celery.message_max_bytes):
            case Taken() as taken:
                return {**payload, "data": as_bytes(taken)}
            case Refused(reason, detail, task):
                _drop(reason, detail, task)
        return {**payload, "data": None}

    def _receive_one(self: Any, client: Any) -> Any:
        try:
            return super()._receive_one(client)  # type: ignore[misc]  # not in the stubs
        except (Empty, *CONNECTION_LOST):
            raise
        except Exception as error:  # one broadcast costs itself, not the worker
            _drop(Reason.NOT_AN_ENVELOPE, f"{type(error).__name__}: {error}", "")
            raise Empty from error

    def _size(self: Any, queue: str) -> int:
        """Messages in a queue. Asked whenever a queue is declared, so a wrong type must not raise here."""
        try:
            return int(super()._size(queue))  # type: ignore[misc]  # not in the stubs
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            return 0

    def _queue_bind(self: Any, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Note a binding in Redis. Only replies are routed by it: queues and broadcasts have their names."""
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]  # not in the stubs
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            log.error("broker.wrong_type", key=self.keyprefix_queue % exchange, found="no set")  # noqa: TRY400


class Channel(_ReadsCarefully, kombu_redis.Channel):
    """A channel to one Redis."""


class SentinelChannel(_ReadsCarefully, kombu_redis.SentinelChannel):
    """A channel to the master behind Sentinels."""


class Transport(kombu_redis.Transport):
    """The transport of every connection of ours to the broker."""

    Channel = Channel


class SentinelTransport(kombu_redis.SentinelTransport):
    """The same, where Sentinels know the broker."""

    Channel = SentinelChannel


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode(errors="replace")


def _drop(reason: Reason, detail: str, task: str) -> None:
    from workers.dropped import message_dropped  # noqa: PLC0415 - the ledger is needed only when this happens

    message_dropped(reason, detail=detail, task=task)
