"""Kombu's Redis transport, made to live on when a queue holds something that is no message at all.

Kombu decodes what it pops inside the consumer's loop; bytes that are not its envelope end the worker there. Anyone
who can write to Redis can put such bytes on a queue, so here they are logged, counted and dropped.
"""

from typing import Any

import structlog
from kombu.transport import redis as kombu_redis

log = structlog.get_logger(__name__)

#: What kombu raises when what it popped is not an envelope: not JSON, not UTF-8, not an object, a part missing.
_NOT_AN_ENVELOPE = (ValueError, KeyError, TypeError, AttributeError)


class _DropsGarbage:
    """What our channels add to kombu's: they drop what is not an envelope."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # private, missing in the stubs
        except _NOT_AN_ENVELOPE as error:
            from workers.dropped import message_dropped  # noqa: PLC0415 - the ledger is needed only when this happens

            message_dropped("not_an_envelope", detail=f"{type(error).__name__}: {error}")
            return True


class Channel(_DropsGarbage, kombu_redis.Channel):
    """A channel to one Redis."""


class SentinelChannel(_DropsGarbage, kombu_redis.SentinelChannel):
    """A channel to the master behind Sentinels."""


class Transport(kombu_redis.Transport):
    """The transport of every connection of ours to the broker."""

    Channel = Channel


class SentinelTransport(kombu_redis.SentinelTransport):
    """The same, where Sentinels know the broker."""

    Channel = SentinelChannel
