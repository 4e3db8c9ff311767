"""The reads of one scrape. Each part may fail alone: then it is None, and the rest is shown."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis
import structlog

from infra.broker import PRIORITY_LISTS, list_names
from infra.celery_config import queue_names
from infra.settings import Settings
from ledger import Ledger, LedgerError
from ledger.measuring import Measurement
from ledger.server import client_for

log = structlog.get_logger(__name__)

#: Where kombu keeps what was delivered and not acknowledged, if it emulates that (kombu/transport/redis.py).
_UNACKED = "unacked"


@dataclass(frozen=True)
class RedisState:
    """How a Redis server is."""

    memory_used_bytes: int
    #: maxmemory, or the host's memory where that is not set.
    memory_max_bytes: int
    evicted_keys: int
    keeps_all: bool
    writes_ok: bool


@dataclass(frozen=True)
class BrokerDepth:
    """Messages in Celery's queues, by queue, over all priority lists."""

    messages: Mapping[str, int]
    #: Keys of a queue that hold something which is no list.
    wrong_type: Mapping[str, int]
    unacked: int


@dataclass(frozen=True)
class Reading:
    """Everything that one scrape has read. None: that source did not answer in time."""

    ledger: Measurement | None
    broker: BrokerDepth | None
    #: By role: ledger, broker.
    servers: Mapping[str, RedisState | None]
    seconds: float


class Reader:
    """Holds two connections and nothing else."""

    def __init__(self, settings: Settings) -> None:
        timeout_s = settings.exporter.timeout_s
        quick = settings.ledger.model_copy(update={"timeout_s": timeout_s, "connect_timeout_s": timeout_s})
        self._ledger = Ledger(quick)
        self._broker = client_for(
            settings.ledger.broker_url.get_secret_value(),
            timeout_s=timeout_s,
            connect_timeout_s=timeout_s,
            name="overspill-exporter",
        )

    def read(self) -> Reading:
        """Read everything once."""
        started = time.perf_counter()
        measured, ledger_server = self._read_ledger()
        depth, broker_server = self._read_broker()
        return Reading(
            ledger=measured,
            broker=depth,
            servers={"ledger": ledger_server, "broker": broker_server},
            seconds=time.perf_counter() - started,
        )

    def _read_ledger(self) -> tuple[Measurement | None, RedisState | None]:
        try:
            return self._ledger.stats.read(), _state(self._ledger.client.info())
        except (LedgerError, redis.exceptions.RedisError) as error:
            log.warning("exporter.ledger_away", error=str(error))
            return None, None

    def _read_broker(self) -> tuple[BrokerDepth | None, RedisState | None]:
        queues = queue_names()
        pipe = self._broker.pipeline(transaction=False)
        pipe.info()
        pipe.hlen(_UNACKED)
        for queue in queues:
            for name in list_names(queue):
                pipe.llen(name)
        try:
            info, unacked, *lengths = pipe.execute(raise_on_error=False)
        except redis.exceptions.RedisError as error:
            log.warning("exporter.broker_away", error=str(error))
            return None, None
        refused = [answer for answer in (info, unacked, *lengths) if isinstance(answer, Exception)]
        others = [error for error in refused if "WRONGTYPE" not in str(error)]
        if others:
            log.warning("exporter.broker_away", error=str(others[0]))
            return None, None
        of_queue = {
            queue: lengths[number * PRIORITY_LISTS : (number + 1) * PRIORITY_LISTS]
            for number, queue in enumerate(queues)
        }
        # Redis answers with an error for each key that holds something else. The other keys are counted all the same.
        depth = BrokerDepth(
            messages={queue: sum(_numbers(found)) for queue, found in of_queue.items()},
            wrong_type={queue: len(found) - len(_numbers(found)) for queue, found in of_queue.items()},
            unacked=sum(_numbers([unacked])),
        )
        return depth, _state(info)

    def close(self) -> None:
        """Close both connections; may be called twice."""
        self._ledger.close()
        self._broker.close()


def _numbers(answers: Sequence[object]) -> list[int]:
    return [answer for answer in answers if isinstance(answer, int)]


def _state(info: Mapping[str, Any]) -> RedisState:
    """From INFO; a hosted Redis may leave parts out."""
    return RedisState(
        memory_used_bytes=int(info.get("used_memory", 0)),
        memory_max_bytes=int(info.get("maxmemory", 0)) or int(info.get("total_system_memory", 0)),
        evicted_keys=int(info.get("evicted_keys", 0)),
        keeps_all=info.get("maxmemory_policy", "noeviction") == "noeviction",
        writes_ok=all(info.get(name, "ok") == "ok" for name in ("aof_last_write_status", "rdb_last_bgsave_status")),
    )
