"""Services that run beside the tasks in a worker process: a slot's heartbeat, and the follower's loop."""

import asyncio
from collections.abc import Sequence

import structlog

from infra.background import BackgroundService
from ledger import Kind, Ledger, LedgerError
from workers.overflow.follower import Follower

log = structlog.get_logger(__name__)

#: Heartbeats in one lease of a slot.
BEATS_PER_LEASE = 3


class SlotHeartbeat(BackgroundService):
    """Tells the ledger that in-house slots live. Ready when the ledger knows them."""

    def __init__(self, ledger: Ledger, *, kinds: Sequence[Kind], slots: Sequence[str], lease_s: float) -> None:
        super().__init__("slot-heartbeat")
        self._ledger = ledger
        self._kinds = list(kinds)
        self._slots = list(slots)
        self._lease_s = lease_s

    def run(self) -> None:
        """Beat until stopped; then take the slots out of the count at once."""
        while not self.stopping.is_set():
            try:
                for slot in self._slots:
                    self._ledger.attempts.slot_lives(self._kinds, worker=slot, lease_s=self._lease_s)
                self.is_ready.set()
            except LedgerError as error:
                log.warning("slot.not_noted", error=str(error))
            self.stopping.wait(self._lease_s / BEATS_PER_LEASE)
        try:
            for slot in self._slots:
                self._ledger.attempts.slot_leaves(self._kinds, worker=slot)
        except LedgerError as error:
            log.warning("slot.not_taken_out", error=str(error))


class FollowerThread(BackgroundService):
    """Runs a follower's loop. Stopped after its present round."""

    STOP_TIMEOUT_S = 15.0

    def __init__(self, follower: Follower) -> None:
        super().__init__("follower")
        self._follower = follower

    def stop(self) -> None:
        """Stop after the present round."""
        self._follower.wake_and_stop()
        super().stop()

    def run(self) -> None:
        """Follow, in an event loop of its own."""

        async def main() -> None:
            self.is_ready.set()
            await self._follower.run()

        asyncio.run(main())
