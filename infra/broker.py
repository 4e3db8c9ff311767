"""Looks into Celery's queues on Redis: how many messages wait, over all of a queue's priority lists."""

from infra.settings import Settings
from ledger.server import client_for

#: Kombu keeps four lists per queue: the bare name for priority 0, and these (kombu/transport/redis.py `_q_for_pri`).
_SEPARATOR = "\x06\x16"
_PRIORITY_STEPS = (0, 3, 6, 9)
#: How many lists a queue has.
PRIORITY_LISTS = len(_PRIORITY_STEPS)


def list_names(queue: str) -> list[str]:
    """The keys of a queue's lists."""
    return [queue if step == 0 else f"{queue}{_SEPARATOR}{step}" for step in _PRIORITY_STEPS]


class Broker:
    """A read-only look at the broker."""

    def __init__(self, settings: Settings) -> None:
        self._client = client_for(
            settings.ledger.broker_url.get_secret_value(),
            timeout_s=settings.ledger.timeout_s,
            connect_timeout_s=settings.ledger.connect_timeout_s,
            name="overspill-broker-depth",
        )

    def depth(self, queue: str) -> int:
        """Messages that wait in a queue.

        Raises:
            redis.exceptions.RedisError: the broker does not answer.
        """
        pipe = self._client.pipeline(transaction=False)
        for name in list_names(queue):
            pipe.llen(name)
        return sum(int(length) for length in pipe.execute())

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._client.close()
