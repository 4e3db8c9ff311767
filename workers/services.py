"""Services that run beside the tasks in a worker process: a slot's heartbeat, and the follower's loop in a thread."""

import asyncio
import threading
from collections.abc import Sequence

import structlog

from ledger import Kind, Ledger, LedgerError
from workers.overflow.follower import Follower

log = structlog.get_logger(__name__)

#: Heartbeats in one lease of a slot.
BEATS_PER_LEASE = 3


class SlotHeartbeat:
    """Tells the ledger that in-house slots live. start, ready, stop; may be stopped twice."""

    def __init__(self, ledger: Ledger, *, kinds: Sequence[Kind], slots: Sequence[str], lease_s: float) -> None:
        self._ledger = ledger
        self._kinds = list(kinds)
        self._slots = list(slots)
        self._lease_s = lease_s
        self._stopping = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slot-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat, in a thread of its own."""
        self._thread.start()

    def ready(self, timeout_s: float) -> bool:
        """Wait until the ledger knows the slots."""
        return self._ready.wait(timeout_s)

    def stop(self) -> None:
        """Stop, and take the slots out of the count at once."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                for slot in self._slots:
                    self._ledger.attempts.slot_lives(self._kinds, worker=slot, lease_s=self._lease_s)
                self._ready.set()
            except LedgerError as error:
                log.warning("slot.not_noted", error=str(error))
            self._stopping.wait(self._lease_s / BEATS_PER_LEASE)
        try:
            for slot in self._slots:
                self._ledger.attempts.slot_leaves(self._kinds, worker=slot)
        except LedgerError as error:
            log.warning("slot.not_taken_out", error=str(error))


class FollowerThread:
    """Runs a follower's loop in a thread of its own. start, ready, stop; may be stopped twice."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._running = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def ready(self, timeout_s: float) -> bool:
        """Wait until the loop runs."""
        return self._running.wait(timeout_s)

    def stop(self) -> None:
        """Stop after the present round."""
        self._follower.wake_and_stop()
        if self._thread.is_alive():
            self._thread.join(timeout=15)

    def _run(self) -> None:
        async def main() -> None:
            self._running.set()
            await self._follower.run()

        asyncio.run(main())
