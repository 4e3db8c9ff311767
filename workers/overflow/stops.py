"""Stopping: calls that nobody waits for any more are cancelled on Modal until they have ended, and are settled then."""

import asyncio
import contextvars

import structlog

from ledger import Ledger
from ledger.outcomes import DueCancel
from workers.overflow.calls import ModalCalls
from workers.overflow.conclusions import Conclusions
from workers.overflow.endings import AskAgain, Pending, classify
from workers.overflow.usage import Seen
from workers.settings import Settings

log = structlog.get_logger(__name__)

#: A call to be stopped is looked at again after this, seconds.
STOP_AGAIN_S = 2.0
#: Stops at once.
STOPS_AT_ONCE = 16
#: Stops that one follower has begun, at most. Looks have an allowance of their own: a crowd of those delays no stop.
STOPS_IN_HAND = 64


class Stops:
    """Stops calls, a bounded number at once. Of one event loop."""

    def __init__(self, ledger: Ledger, calls: ModalCalls, conclusions: Conclusions, settings: Settings) -> None:
        self._ledger = ledger
        self._calls = calls
        self._conclusions = conclusions
        self._settings = settings
        self._at_once = asyncio.Semaphore(STOPS_AT_ONCE)
        self._in_hand: set[tuple[str, int]] = set()

    async def take(self) -> list[DueCancel]:
        """Calls that must be stopped; each falls due again until it is settled.

        Raises:
            LedgerUnavailable: none was taken.
        """
        room = STOPS_IN_HAND - len(self._in_hand)
        if room <= 0:
            return []
        due = await asyncio.to_thread(self._ledger.calls.claim_cancels, limit=room, again_in_s=STOP_AGAIN_S)
        fresh = [one for one in due if (one.job_id, one.attempt) not in self._in_hand]
        # When Modal is slow a stop may outlast the time after which it falls due again: it is not begun twice here.
        self._in_hand |= {(one.job_id, one.attempt) for one in fresh}
        return fresh

    async def stop(self, cancel: DueCancel) -> None:
        """Stop one that was taken; settle it if it has ended."""
        try:
            await self._stop(cancel)
        finally:
            self._in_hand.discard((cancel.job_id, cancel.attempt))

    async def _stop(self, cancel: DueCancel) -> None:
        if cancel.call_id is None:
            await self._stop_unknown(cancel)
            return
        async with self._at_once:
            trouble = await self._calls.stop(cancel.call_id)
            ending = classify(await self._calls.look(cancel.call_id))
        if trouble is not None:
            log.warning("call.not_stopped", error=f"{type(trouble).__name__}: {trouble}")
        if isinstance(ending, Pending | AskAgain):
            return  # It falls due again.
        announced = None
        if ending.envelope is None:
            announced = await self._calls.announcement(cancel.job_id, cancel.attempt)
        seen = Seen.of(cancel.spawned_ms or cancel.spawn_intent_ms, cancel.now_ms)
        usage = self._conclusions.usage_of(ending, announced, kind=cancel.kind, gpu=cancel.gpu, seen=seen)
        log.info("call.stopped")
        context = contextvars.copy_context()
        await asyncio.to_thread(
            context.run,
            lambda: self._ledger.calls.settle_cancel(cancel.job_id, cancel.attempt, usage=usage),
        )

    async def _stop_unknown(self, cancel: DueCancel) -> None:
        """A spawn that has not answered: wait for its id as long as a spawn may take, twice over, then let go."""
        waited_s = (cancel.now_ms - (cancel.spawn_intent_ms or 0)) / 1000
        if waited_s > 2 * self._settings.spawn_timeout_s:
            log.warning("call.never_known", waited_s=round(waited_s))
            await asyncio.to_thread(self._ledger.calls.settle_cancel, cancel.job_id, cancel.attempt)
