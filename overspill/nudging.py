"""The client's nudges: sent by Celery from their own thread, bounded in time; a lost one costs time, never a job."""

import logging
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING, Protocol

from ledger.nudges import SIGNATURE_HEADER, Nudge, sign

if TYPE_CHECKING:
    from celery import Celery

# The standard library's logger for the reason that client.py gives.
log = logging.getLogger("overspill.client")

#: Longest that a submission waits for its nudge to be sent, seconds; the sending goes on in the background.
NUDGE_WAIT_S = 2.0


class NudgeSender(Protocol):
    """Sends Celery messages; for tests, and for services that have a sender of their own."""

    def send(self, nudge: Nudge) -> bool:
        """Send it. True if it was sent."""

    def close(self) -> None:
        """Close the connection to the broker. May be called twice."""


class CelerySender:
    """Sends nudges with Celery, which is imported and connected when the first one is sent.

    Args:
        broker_url: the Redis of Celery's queues.
        keys: the keys of nudges, the first of which signs; empty: nudges are not signed.
    """

    def __init__(self, broker_url: str, *, keys: tuple[str, ...] = ()) -> None:
        self._broker_url = broker_url
        self._keys = keys
        self._app: Celery | None = None

    def send(self, nudge: Nudge) -> bool:
        """Send one. Raises the errors of Celery, after a few seconds at most."""
        app = self._app = self._app or self._make()
        message_id = str(uuid.uuid4())
        app.send_task(
            nudge.task,
            kwargs=nudge.kwargs,
            queue=nudge.queue,
            task_id=message_id,
            headers={SIGNATURE_HEADER: sign(self._keys[0], nudge, message_id=message_id)} if self._keys else None,
            retry=False,
            ignore_result=True,
            declare=[],  # a list in Redis needs no declaration, and the workers make theirs
        )
        return True

    def close(self) -> None:
        """Close the connections; may be called twice."""
        if self._app is not None:
            self._app.close()
            self._app = None

    def _make(self) -> "Celery":
        from celery import Celery  # noqa: PLC0415 - half a second that only the first submission pays

        # Not the process's current app: the service that imports us may have one of its own.
        app = Celery("overspill-client", set_as_current=False)
        app.conf.update(
            broker_url=self._broker_url,
            broker_connection_timeout=1.0,
            broker_transport_options={
                # We never receive. The ledger is what makes a job safe, so nothing is lost with emulated acks.
                "ack_emulation": False,
                "socket_timeout": 2,
                "socket_connect_timeout": 1,
                # Without these kombu tries to connect for ever.
                "max_retries": 0,
                "interval_start": 0,
                "interval_step": 0,
                "interval_max": 0,
            },
            task_serializer="json",
            accept_content=["json"],
            result_backend=None,
            task_ignore_result=True,
        )
        return app


class Nudging:
    """Sends nudges in a thread of its own, so that nothing a broker does can hold a submission up for long."""

    def __init__(self, sender: NudgeSender, wait_s: float) -> None:
        self._sender = sender
        self._wait_s = wait_s
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="overspill-nudges")
        self._stuck: Future[None] | None = None

    def send(self, nudge: Nudge) -> None:
        """Send it, waiting for that for a moment. Never raises."""
        if self._stuck is not None and not self._stuck.done():
            # Not worth another wait: all nudges of a kind are equal, and the sweep repeats a lost one.
            log.warning("nudge.skipped", extra={"queue": nudge.queue, "reason": "an earlier one is stuck"})
            return
        future = self._pool.submit(self._send, nudge)
        try:
            future.result(timeout=self._wait_s)
        except FutureTimeout:
            self._stuck = future
            log.warning("nudge.slow", extra={"queue": nudge.queue, "waited_s": self._wait_s})

    def _send(self, nudge: Nudge) -> None:
        try:
            sent = self._sender.send(nudge)
        except Exception as error:  # noqa: BLE001 - Celery, kombu and redis raise what they like; the job is safe
            log.warning("nudge.not_sent", extra={"queue": nudge.queue, "error": type(error).__name__})
        else:
            log.debug("nudge.sent", extra={"queue": nudge.queue, "sent": sent})

    def close(self) -> None:
        """Stop the thread and close the connection to the broker. May be called twice."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._sender.close()
