"""Stopping: calls that nobody waits for any more are cancelled on Modal until they have ended, and are settled then."""

import asyncio
import contextvars
import time

import structlog

from infra.settings import Settings
from ledger import Ledger
from ledger.outcomes import DueCancel
from ledger.retries import Cause
from modal_apps.announce import Announcement, ContainerStart
from workers.overflow.calls import ModalCalls
from workers.overflow.conclusions import Conclusions
from workers.overflow.endings import AskAgain, Ended, Ending, Pending, Succeeded, classify
from workers.overflow.usage import MILLISECONDS, Seen

log = structlog.get_logger(__name__)

#: A call to be stopped is looked at again after this, seconds.
STOP_AGAIN_S = 2.0
#: Stops at once.
STOPS_AT_ONCE = 16
#: Stops that one follower has begun, at most. Looks have an allowance of their own: a crowd of those delays no stop.
STOPS_IN_HAND = 64
#: What a call that has ended has cost is asked for so long beyond its deadline, seconds; then the most is booked.
ASKED_FOR_S = 600.0
#: The longest that Modal lets any call run, seconds. So long beyond its deadline one has ended, whoever can be asked.
LONGEST_CALL_S = 24 * 3600.0


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
        taken_at = time.monotonic()
        async with self._at_once:
            trouble = await self._calls.stop(cancel.call_id)
            ending = classify(await self._calls.look(cancel.call_id))
        noticed_ms = cancel.now_ms + (time.monotonic() - taken_at) * MILLISECONDS
        if trouble is not None:
            log.warning("call.not_stopped", error=f"{type(trouble).__name__}: {trouble}")
        deadline_ms = self._deadline_ms(cancel)
        beyond_s = (noticed_ms - deadline_ms) / MILLISECONDS
        gives_up = cannot_run(ending, stop_taken=trouble is None, beyond_s=beyond_s)
        match ending:
            case Pending():
                return  # It falls due again.
            case AskAgain(reason):
                if not gives_up:
                    return  # The same.
                ending, noticed_ms = Ended(Cause.RESULT_LOST, reason), min(noticed_ms, deadline_ms)
            case Succeeded() | Ended():
                pass
        announced = None
        if ending.envelope is None:
            try:
                announced = await self._calls.announcement(cancel.job_id, cancel.attempt)
            except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
                log.info("announcement.not_asked", error=f"{type(error).__name__}: {error}")
                if not gives_up:
                    return  # The same: what it cost is not known yet.
                announced, noticed_ms = _from_its_spawn(cancel), min(noticed_ms, deadline_ms)
        await self._settle(cancel, ending, announced, noticed_ms)

    def _deadline_ms(self, cancel: DueCancel) -> float:
        """Our wall clock of a call; one that was found late was given none, and has as long as any of its kind."""
        if cancel.call_deadline_ms is not None:
            return cancel.call_deadline_ms
        since_ms = cancel.spawned_ms or cancel.spawn_intent_ms or cancel.now_ms
        return since_ms + self._settings.call_deadline_of(cancel.kind) * MILLISECONDS

    async def _settle(
        self, cancel: DueCancel, ending: Succeeded | Ended, announced: Announcement | None, noticed_ms: float
    ) -> None:
        seen = Seen.of(cancel.spawned_ms or cancel.spawn_intent_ms, noticed_ms)
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


def cannot_run(ending: Ending, *, stop_taken: bool, beyond_s: float) -> bool:
    """Whether a call that Modal cannot be asked about runs no more, so that its books can be closed without an answer.

    Args:
        ending: what is known of it.
        stop_taken: Modal took the stop.
        beyond_s: how long its deadline is over, seconds.
    """
    has_ended = stop_taken or not isinstance(ending, AskAgain) or ending.has_result
    return beyond_s >= (ASKED_FOR_S if has_ended else LONGEST_CALL_S)


def _from_its_spawn(cancel: DueCancel) -> Announcement:
    """In place of an announcement that cannot be read: it is charged from its spawn on, the most that it can cost."""
    call_id, since_s = cancel.call_id or "", (cancel.spawned_ms or cancel.now_ms) / MILLISECONDS
    return Announcement(cancel.job_id, cancel.attempt, call_id, since_s, (ContainerStart(call_id, since_s),))
