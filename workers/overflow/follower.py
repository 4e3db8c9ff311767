"""Following: look at the calls that are due, conclude those that ended, stop those that nobody wants any more.

A follower holds nothing: what it looks at it has claimed in the ledger for a while, so any number of followers share
the calls, and one that dies is replaced when its claims lapse. Looks never wait (`timeout=0`); the next look follows
the age of the call.
"""

import asyncio
import contextvars
import random
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

import structlog

from ledger import Ledger, LedgerError
from ledger.containers import Usage
from ledger.outcomes import DueCall, DueCancel, Failed, Requeued, Stale
from ledger.retries import NEVER, Cause
from modal_apps.envelope import Envelope
from workers.artifacts import ArtifactStoreUnavailable, Video
from workers.delivery import deliver
from workers.logs import bound
from workers.overflow.calls import ModalCalls
from workers.overflow.endings import AskAgain, Ended, Pending, Succeeded, classify
from workers.overflow.orphans import OrphanSweep
from workers.overflow.usage import of_announcement, of_envelope
from workers.patience import patiently
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Life of a follower's claim on a call, seconds: for a look. `begin_delivery` makes it long enough for a delivery. It
#: is also how long a call waits for another follower when its own has died.
CLAIM_S = 10.0
#: Deliveries to S3 at once, each in a thread.
DELIVERIES_AT_ONCE = 8
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
        self._at_once = asyncio.Semaphore(self._settings.follow_concurrency)
        self._deliverers = ThreadPoolExecutor(DELIVERIES_AT_ONCE, thread_name_prefix="delivery")
        self._stopping = threading.Event()

    def wake_and_stop(self) -> None:
        """Stop when what is in hand is done; may be called twice."""
        self._stopping.set()

    async def run(self) -> None:
        """Take what is due, again and again, until stopped. What takes long never holds up the rest."""
        # Of this loop: a follower that stumbled is begun again in a new one, where an old semaphore would not open.
        self._at_once = asyncio.Semaphore(self._settings.follow_concurrency)
        in_hand: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set():
            try:
                taken = await self._take(in_hand)
                await self._orphans.if_due()
            except LedgerError as error:
                log.warning("follower.ledger_away", error=str(error))
                await self._pause(AWAY_S)
                continue
            if not taken:
                await self._pause(IDLE_S)
        if in_hand:
            await asyncio.wait(in_hand)

    async def _take(self, in_hand: set[asyncio.Task[None]]) -> int:
        """Begin to look at everything that is due, as far as there is room; returns how much that was."""
        room = self._settings.follow_batch - len(in_hand)
        if room <= 0:
            await asyncio.wait(in_hand, timeout=IDLE_S, return_when=asyncio.FIRST_COMPLETED)
            return 0

        def begin(work: Coroutine[None, None, None]) -> None:
            task = asyncio.create_task(work)
            in_hand.add(task)
            task.add_done_callback(in_hand.discard)

        # Each claim is begun before the next is made: should the ledger go away in between, none stands idle.
        due = await asyncio.to_thread(self._ledger.calls.claim_due, limit=room, lease_s=CLAIM_S)
        for call in due:
            begin(self._look_at(call))
        cancels = await asyncio.to_thread(self._ledger.calls.claim_cancels, limit=room, again_in_s=STOP_AGAIN_S)
        for cancel in cancels:
            begin(self._stop_one(cancel))
        return len(due) + len(cancels)

    async def _look_at(self, call: DueCall) -> None:
        with bound(**call.record.log_context(), call_id=call.record.call_id):
            await self._survived(self._look(call))

    async def _stop_one(self, cancel: DueCancel) -> None:
        with bound(job_id=cancel.job_id, attempt=cancel.attempt, call_id=cancel.call_id):
            await self._survived(self._stop(cancel))

    async def _survived(self, work: Coroutine[None, None, None]) -> None:
        """One call's trouble is not another's; its claim lapses, and it falls due again."""
        try:
            await work
        except LedgerError as error:
            log.warning("follower.ledger_away", error=str(error))
        except Exception:
            log.exception("follower.look_failed")

    async def _look(self, call: DueCall) -> None:
        async with self._at_once:
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
                record = call.record
                usage = await self._usage_of(record.id, record.attempt, record.gpu or "", ending, ended_ms=call.now_ms)
                context = contextvars.copy_context()
                await asyncio.get_running_loop().run_in_executor(
                    self._deliverers, lambda: context.run(self._conclude, call, ending, usage)
                )

    async def _again(self, call: DueCall) -> None:
        age_s = (call.now_ms - call.spawned_ms) / 1000
        again_in_s = min(self._settings.poll_max_s, max(self._settings.poll_first_s, age_s * LOOK_SHARE))
        await asyncio.to_thread(self._release, call, again_in_s)

    def _release(self, call: DueCall, again_in_s: float) -> None:
        """Give the call back. A claim that is not given back stands until it lapses, so this is tried for a while."""
        patiently(
            lambda: self._ledger.calls.release(call.record.id, call.record.attempt, again_in_s=again_in_s),
            for_s=CLAIM_S / 2,
        )

    async def _overdue(self, call: DueCall) -> None:
        log.warning("call.overdue")
        seconds = (call.call_deadline_ms - call.spawned_ms) / 1000
        message = f"the call had not ended {seconds:g} s after its spawn; it is stopped"
        await asyncio.to_thread(self._fail, call, Ended(Cause.TIMEOUT, message), None, call_may_run=True)

    async def _usage_of(
        self, job_id: str, attempt: int, gpu: str, ending: Succeeded | Ended, *, ended_ms: int
    ) -> Usage:
        """What containers a call is charged for: by its envelope, else by what it announced when it began."""
        window_s = self._settings.modal_scaledown_window_s
        if ending.envelope is not None:
            return of_envelope(ending.envelope, gpu=gpu, idle_window_s=window_s)
        announced = await self._calls.announcement(job_id, attempt)
        return of_announcement(announced, ended_at=ended_ms / 1000, gpu=gpu, idle_window_s=window_s)

    def _conclude(self, call: DueCall, ending: Succeeded | Ended, usage: Usage) -> None:
        match ending:
            case Succeeded(envelope):
                try:
                    self._deliver(call, envelope, usage)
                except ArtifactStoreUnavailable as error:
                    # The result stays with Modal for days: look again rather than render again.
                    log.warning("delivery.failed", error=str(error))
                    self._release(call, self._settings.poll_max_s)
                except (KeyError, TypeError) as error:
                    broken = Ended(Cause.BAD_ENVELOPE, f"the value lacks a part: {error!r}", envelope=envelope)
                    self._fail(call, broken, usage)
            case Ended():
                self._fail(call, ending, usage)

    def _deliver(self, call: DueCall, envelope: Envelope, usage: Usage) -> None:
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
            usage=usage,
        )

    def _fail(self, call: DueCall, ended: Ended, usage: Usage | None, *, call_may_run: bool = False) -> None:
        log.warning("attempt.failed", cause=str(ended.cause), error=ended.message)
        outcome = self._ledger.attempts.fail(
            call.record.id,
            call.record.attempt,
            cause=ended.cause,
            message=ended.message,
            max_attempts=self._settings.max_attempts,
            jitter=random.random(),
            rule=None if ended.retryable else NEVER,
            usage=usage,
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
        async with self._at_once:
            trouble = await self._calls.stop(cancel.call_id)
            ending = classify(await self._calls.look(cancel.call_id))
        if trouble is not None:
            log.warning("call.not_stopped", error=f"{type(trouble).__name__}: {trouble}")
        if isinstance(ending, Pending | AskAgain):
            return  # It falls due again.
        usage = await self._usage_of(cancel.job_id, cancel.attempt, cancel.gpu, ending, ended_ms=cancel.now_ms)
        log.info("call.stopped")
        await asyncio.to_thread(self._ledger.calls.settle_cancel, cancel.job_id, cancel.attempt, usage=usage)

    async def _stop_unknown(self, cancel: DueCancel) -> None:
        """A spawn that has not answered: wait for its id as long as a spawn may take, twice over, then let go."""
        waited_s = (cancel.now_ms - (cancel.spawn_intent_ms or 0)) / 1000
        if waited_s > 2 * self._settings.spawn_timeout_s:
            log.warning("call.never_known", waited_s=round(waited_s))
            await asyncio.to_thread(self._ledger.calls.settle_cancel, cancel.job_id, cancel.attempt)

    async def _pause(self, seconds: float) -> None:
        await asyncio.to_thread(self._stopping.wait, seconds)
