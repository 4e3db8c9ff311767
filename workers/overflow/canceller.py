"""The canceller: cancels calls that nobody waits for any more, until they have ended, and settles what they cost."""

import asyncio
import contextvars
import time

import structlog

from infra.settings import Settings
from ledger import Ledger
from ledger.outcomes import DueCancel
from ledger.retries import Cause
from modal_apps.announce import Announcement, ContainerStart
from workers.overflow.classify import CallFailed, CallOutcome, CallPending, CallSucceeded, CallUnknown, classify
from workers.overflow.completer import Completer
from workers.overflow.modal_sdk.port import ModalCalls
from workers.overflow.usage import MILLISECONDS, Observation

log = structlog.get_logger(__name__)

#: A cancellation falls due again after this, seconds, until its call is settled.
CANCEL_AGAIN_S = 2.0
#: Cancellations at once.
CANCELS_AT_ONCE = 16
#: Cancellations that one follower has begun, at most. Polls have an allowance of their own: many of those delay none.
CANCELS_IN_FLIGHT = 64
#: Modal is asked for the cost of a call that has ended until this long after its deadline, seconds. Then the most that
#: the call can have cost is booked.
ASKED_FOR_S = 600.0
#: The longest that Modal lets any call run, seconds. This long after its deadline a call has ended, whether or not
#: Modal answers.
LONGEST_CALL_S = 24 * 3600.0


class Canceller:
    """Cancels calls, a bounded number at once. Belongs to one event loop."""

    def __init__(self, ledger: Ledger, calls: ModalCalls, completer: Completer, settings: Settings) -> None:
        self._ledger = ledger
        self._calls = calls
        self._completer = completer
        self._settings = settings
        self._at_once = asyncio.Semaphore(CANCELS_AT_ONCE)
        self._in_flight: set[tuple[str, int]] = set()

    async def claim(self) -> list[DueCancel]:
        """Calls that must be cancelled; each falls due again until it is settled.

        Raises:
            LedgerUnavailable: none was claimed.
        """
        room = CANCELS_IN_FLIGHT - len(self._in_flight)
        if room <= 0:
            return []
        due = await asyncio.to_thread(self._ledger.modal_calls.claim_cancels, limit=room, again_in_s=CANCEL_AGAIN_S)
        fresh = [one for one in due if one.attempt_of not in self._in_flight]
        # When Modal is slow a cancellation may take longer than `CANCEL_AGAIN_S`: it is not begun twice here.
        self._in_flight |= {one.attempt_of for one in fresh}
        return fresh

    async def cancel(self, cancel: DueCancel) -> None:
        """Cancel a claimed call; settle it if it has ended."""
        try:
            await self._cancel(cancel)
        finally:
            self._in_flight.discard(cancel.attempt_of)

    async def _cancel(self, cancel: DueCancel) -> None:
        if cancel.call_id is None:
            await self._let_go(cancel)
            return
        taken_at = time.monotonic()
        async with self._at_once:
            refusal = await self._calls.cancel(cancel.call_id)
            outcome = classify(await self._calls.poll(cancel.call_id))
        noticed_ms = cancel.now_ms + (time.monotonic() - taken_at) * MILLISECONDS
        if refusal is not None:
            log.warning("call.not_stopped", error=f"{type(refusal).__name__}: {refusal}")
        deadline_ms = self._deadline_ms(cancel)
        beyond_s = (noticed_ms - deadline_ms) / MILLISECONDS
        gives_up = cannot_run(outcome, cancel_taken=refusal is None, beyond_s=beyond_s)
        match outcome:
            case CallPending():
                return  # It falls due again.
            case CallUnknown(message):
                if not gives_up:
                    return  # It falls due again.
                outcome, noticed_ms = CallFailed(Cause.RESULT_LOST, message), min(noticed_ms, deadline_ms)
            case CallSucceeded() | CallFailed():
                pass
        announced = None
        if outcome.envelope is None:
            try:
                announced = await self._calls.announcement(cancel.job_id, cancel.attempt)
            except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
                log.info("announcement.not_read", error=f"{type(error).__name__}: {error}")
                if not gives_up:
                    return  # It falls due again: its cost is not known yet.
                announced, noticed_ms = _from_its_spawn(cancel), min(noticed_ms, deadline_ms)
        await self._settle(cancel, outcome, announced, noticed_ms)

    def _deadline_ms(self, cancel: DueCancel) -> float:
        """Our wall clock of a call; one that was found late was given none, and has as long as any of its kind."""
        if cancel.call_deadline_ms is not None:
            return cancel.call_deadline_ms
        since_ms = cancel.spawned_ms or cancel.spawn_intent_ms or cancel.now_ms
        return since_ms + self._settings.call_deadline_of(cancel.kind) * MILLISECONDS

    async def _settle(
        self,
        cancel: DueCancel,
        outcome: CallSucceeded | CallFailed,
        announced: Announcement | None,
        noticed_ms: float,
    ) -> None:
        observed = Observation.of(cancel.spawned_ms or cancel.spawn_intent_ms, noticed_ms)
        usage = self._completer.usage_of(outcome, announced, kind=cancel.kind, gpu=cancel.gpu, observed=observed)
        log.info("call.stopped")
        context = contextvars.copy_context()
        await asyncio.to_thread(
            context.run,
            lambda: self._ledger.modal_calls.settle_cancel(cancel.job_id, cancel.attempt, usage=usage),
        )

    async def _let_go(self, cancel: DueCancel) -> None:
        """A spawn without an answer: wait for its id twice as long as a spawn may take, then settle it without one."""
        waited_s = (cancel.now_ms - (cancel.spawn_intent_ms or 0)) / 1000
        if waited_s > 2 * self._settings.spawn.timeout_s:
            log.warning("call.never_known", waited_s=round(waited_s))
            await asyncio.to_thread(self._ledger.modal_calls.settle_cancel, cancel.job_id, cancel.attempt)


def cannot_run(outcome: CallOutcome, *, cancel_taken: bool, beyond_s: float) -> bool:
    """Whether a call runs no more although Modal does not say so, so that it can be settled without an answer.

    Args:
        outcome: what is known of it.
        cancel_taken: Modal accepted the cancellation.
        beyond_s: how long its deadline is over, seconds.
    """
    has_ended = cancel_taken or not isinstance(outcome, CallUnknown) or outcome.has_result
    return beyond_s >= (ASKED_FOR_S if has_ended else LONGEST_CALL_S)


def _from_its_spawn(cancel: DueCancel) -> Announcement:
    """In place of an announcement that cannot be read: it is charged from its spawn on, the most that it can cost."""
    call_id, since_s = cancel.call_id or "", (cancel.spawned_ms or cancel.now_ms) / MILLISECONDS
    return Announcement(cancel.job_id, cancel.attempt, call_id, since_s, (ContainerStart(call_id, since_s),))
