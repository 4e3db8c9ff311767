"""Following: look at the calls that are due, conclude those that ended, stop those that nobody wants any more.

A follower holds nothing: what it looks at it has claimed in the ledger for a while, so any number of followers share
the calls, and one that dies is replaced when its claims lapse. Looks never wait (`timeout=0`); the next look follows
the age of the call.
"""

import asyncio
import random
import threading

import structlog

from ledger import Ledger, LedgerError
from ledger.outcomes import DueCall, DueCancel, Failed, Requeued, Stale
from ledger.retries import NEVER, Cause
from modal_apps.envelope import Envelope
from modal_apps.gpus import parse as parse_gpu
from workers.artifacts import ArtifactStoreUnavailable, Video
from workers.delivery import deliver
from workers.logs import bound
from workers.overflow.calls import ModalCalls
from workers.overflow.endings import AskAgain, Ended, Ending, Pending, Succeeded, classify
from workers.overflow.orphans import OrphanSweep
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Life of a follower's claim on a call, seconds: longer than a delivery takes.
CLAIM_S = 120.0
#: A call to be stopped is looked at again after this, seconds.
STOP_AGAIN_S = 2.0
#: Pause when nothing is due, seconds.
IDLE_S = 0.2
#: Pause when the ledger is away, seconds.
AWAY_S = 1.0
#: A look after this share of the call's age, within the bounds of the settings.
LOOK_SHARE = 0.1


class Follower:
    """Follows calls until it is stopped. `run` is a coroutine; `wake_and_stop` may be called from any thread."""

    def __init__(self, open_ends: Resources, calls: ModalCalls) -> None:
        self._open = open_ends
        self._ledger: Ledger = open_ends.ledger
        self._calls = calls
        self._settings = open_ends.settings
        self._orphans = OrphanSweep(self._ledger, calls, every_s=self._settings.orphan_sweep_every_s)
        self._stopping = threading.Event()

    def wake_and_stop(self) -> None:
        """Stop after the present round; may be called twice."""
        self._stopping.set()

    async def run(self) -> None:
        """Round after round until stopped."""
        while not self._stopping.is_set():
            try:
                found = await self.round()
                await self._orphans.if_due()
            except LedgerError as error:
                log.warning("follower.ledger_away", error=str(error))
                await self._pause(AWAY_S)
                continue
            if not found:
                await self._pause(IDLE_S)

    async def round(self) -> int:
        """Look at everything that is due now; returns how much that was."""
        limit = self._settings.follow_batch
        due = await asyncio.to_thread(self._ledger.calls.claim_due, limit=limit, lease_s=CLAIM_S)
        cancels = await asyncio.to_thread(self._ledger.calls.claim_cancels, limit=limit, again_in_s=STOP_AGAIN_S)
        at_once = asyncio.Semaphore(self._settings.follow_concurrency)

        async def bounded_look(call: DueCall) -> None:
            async with at_once:
                with bound(**call.record.log_context(), call_id=call.record.call_id):
                    await self._look(call)

        async def bounded_stop(cancel: DueCancel) -> None:
            async with at_once:
                with bound(job_id=cancel.job_id, attempt=cancel.attempt, call_id=cancel.call_id):
                    await self._stop(cancel)

        work = [*(bounded_look(call) for call in due), *(bounded_stop(cancel) for cancel in cancels)]
        for result in await asyncio.gather(*work, return_exceptions=True):
            # One call's trouble is not another's; its claim lapses and it falls due again.
            if isinstance(result, LedgerError):
                log.warning("follower.ledger_away", error=str(result))
            elif isinstance(result, Exception):
                log.error("follower.look_failed", exc_info=result)
            elif isinstance(result, BaseException):
                raise result
        return len(work)

    async def _look(self, call: DueCall) -> None:
        ending = classify(await self._calls.look(call.record.call_id or ""))
        match ending:
            case Pending() if call.now_ms >= call.call_deadline_ms:
                await self._overdue(call)
            case Pending():
                await self._again(call)
            case AskAgain(reason):
                log.warning("call.not_asked", error=reason)
                await self._again(call)
            case Succeeded() | Ended():
                await asyncio.to_thread(self._conclude, call, ending)

    async def _again(self, call: DueCall) -> None:
        age_s = (call.now_ms - call.spawned_ms) / 1000
        again_in_s = min(self._settings.poll_max_s, max(self._settings.poll_first_s, age_s * LOOK_SHARE))
        await asyncio.to_thread(self._ledger.calls.release, call.record.id, call.record.attempt, again_in_s=again_in_s)

    async def _overdue(self, call: DueCall) -> None:
        log.warning("call.overdue")
        seconds = (call.call_deadline_ms - call.spawned_ms) / 1000
        message = f"the call had not ended {seconds:g} s after its spawn; it is stopped"
        await asyncio.to_thread(self._fail, call, Ended(Cause.TIMEOUT, message), 0, call_may_run=True)

    def _conclude(self, call: DueCall, ending: Ending) -> None:
        match ending:
            case Succeeded(envelope):
                cost = call_cost_usd_micros(call, envelope)
                try:
                    self._deliver(call, envelope, cost)
                except ArtifactStoreUnavailable as error:
                    # The result stays with Modal for days: look again rather than render again.
                    log.warning("delivery.failed", error=str(error))
                    self._ledger.calls.release(
                        call.record.id, call.record.attempt, again_in_s=self._settings.poll_max_s
                    )
                except (KeyError, TypeError) as error:
                    broken = Ended(Cause.BAD_ENVELOPE, f"the value lacks a part: {error!r}", envelope=envelope)
                    self._fail(call, broken, cost)
            case Ended():
                self._fail(call, ending, call_cost_usd_micros(call, ending.envelope))
            case Pending() | AskAgain():
                raise AssertionError(f"expected an ending, got {ending!r}")

    def _deliver(self, call: DueCall, envelope: Envelope, cost_usd_micros: int) -> None:
        value = envelope.value or {}
        deliver(
            self._ledger,
            self._open.artifacts,
            call.record,
            Video(value["mp4"], value["thumbnail_webp"], value["sha256"]),
            measurements={
                **value["measurements"],
                "seconds": envelope.timings.execution_s,
                "startup_s": envelope.timings.startup_s if envelope.cold_start else 0.0,
                "container_id": envelope.container_id,
            },
            cost_usd_micros=cost_usd_micros,
        )

    def _fail(self, call: DueCall, ended: Ended, cost_usd_micros: int, *, call_may_run: bool = False) -> None:
        log.warning("attempt.failed", cause=str(ended.cause), error=ended.message)
        outcome = self._ledger.attempts.fail(
            call.record.id,
            call.record.attempt,
            cause=ended.cause,
            message=ended.message,
            max_attempts=self._settings.max_attempts,
            jitter=random.random(),
            rule=None if ended.retryable else NEVER,
            cost_usd_micros=cost_usd_micros,
            call_may_run=call_may_run,
        )
        match outcome:
            case Requeued(nudge):
                self._open.nudger.send(nudge)
            case Failed() | Stale():
                pass

    async def _stop(self, cancel: DueCancel) -> None:
        if cancel.call_id is None:
            await self._stop_unknown(cancel)
            return
        trouble = await self._calls.stop(cancel.call_id)
        if trouble is not None:
            log.warning("call.not_stopped", error=f"{type(trouble).__name__}: {trouble}")
        seconds = _seconds_until_stopped(cancel, classify(await self._calls.look(cancel.call_id)))
        if seconds is None:
            return  # It falls due again.
        cost = parse_gpu(cancel.gpu).cost_usd_micros(seconds)
        log.info("call.stopped", cost_usd_micros=cost)
        await asyncio.to_thread(self._ledger.calls.settle_cancel, cancel.job_id, cancel.attempt, cost_usd_micros=cost)

    async def _stop_unknown(self, cancel: DueCancel) -> None:
        """A spawn that has not answered: wait for its id as long as a spawn may take, twice over, then let go."""
        waited_s = (cancel.now_ms - (cancel.spawn_intent_ms or 0)) / 1000
        if waited_s > 2 * self._settings.spawn_timeout_s:
            log.warning("call.never_known", waited_s=round(waited_s))
            await asyncio.to_thread(self._ledger.calls.settle_cancel, cancel.job_id, cancel.attempt, cost_usd_micros=0)

    async def _pause(self, seconds: float) -> None:
        await asyncio.to_thread(self._stopping.wait, seconds)


def _seconds_until_stopped(cancel: DueCancel, ending: Ending) -> float | None:
    """How long a stopped call had used its GPU, seconds; None while it may still run."""
    match ending:
        case Pending() | AskAgain():
            return None
        case Succeeded(envelope):
            return envelope.timings.finished_at - envelope.timings.container_started_at
        case Ended():
            # No envelope says how long it ran: the time since the spawn is an upper bound.
            return (cancel.now_ms - (cancel.spawned_ms or cancel.now_ms)) / 1000


def call_cost_usd_micros(call: DueCall, envelope: Envelope | None) -> int:
    """What a call cost: the method's seconds, and its container's start if it was the first input there.

    Without an envelope only the time since the spawn is known: an upper bound, so that the budget never flatters.
    """
    gpu = parse_gpu(call.record.gpu or "")
    if envelope is None:
        return gpu.cost_usd_micros((call.now_ms - call.spawned_ms) / 1000)
    seconds = envelope.timings.execution_s + (envelope.timings.startup_s if envelope.cold_start else 0.0)
    return gpu.cost_usd_micros(seconds)
