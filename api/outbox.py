"""Nudges on their way out: sent in order by one thread, after the answer, so that no broker can delay a request."""

from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock

import structlog

from api.ports import NudgeSender
from ledger.nudges import Nudge

log = structlog.get_logger(__name__)

#: Nudges that may wait. Beyond that they are dropped: the sweep sends one for every job that still waits.
CAPACITY = 1_000
#: How long a stop waits for what is still to be sent, seconds.
DRAIN_S = 2.0


class Outbox:
    """Takes nudges at once and sends them one by one."""

    def __init__(self, sender: NudgeSender, *, capacity: int = CAPACITY) -> None:
        self._sender = sender
        self._capacity = capacity
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="nudges")
        self._waiting: set[Future[None]] = set()
        self._lock = Lock()
        self._stopped = False

    def put(self, nudge: Nudge) -> None:
        """Have it sent. Never waits, never raises."""
        with self._lock:
            if self._stopped or len(self._waiting) >= self._capacity:
                log.warning("nudge.dropped", queue=nudge.queue, waiting=len(self._waiting), stopped=self._stopped)
                return
            future = self._pool.submit(self._send, nudge)
            self._waiting.add(future)
        future.add_done_callback(self._sent)

    def _send(self, nudge: Nudge) -> None:
        try:
            self._sender.send(nudge)
        except Exception:
            # A sender that breaks its promise costs one nudge, which the sweep makes good.
            log.exception("nudge.failed", queue=nudge.queue)

    def _sent(self, future: Future[None]) -> None:
        with self._lock:
            self._waiting.discard(future)

    def stop(self, *, drain_s: float = DRAIN_S) -> None:
        """Send what waits for `drain_s` seconds, drop the rest, let go of the broker; may be called twice."""
        with self._lock:
            self._stopped = True
            waiting = tuple(self._waiting)
        wait(waiting, timeout=drain_s)
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._sender.close()
