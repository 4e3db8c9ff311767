"""The poller: polls one call, and does what follows from the answer.

A call that has ended goes to the completer. One that runs is rescheduled, unless its deadline is over, its reservation
is used up, or no GPU comes for it: then it is ended, and the canceller stops it on Modal.
"""

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from infra.settings import Settings
from ledger import LedgerFull, LedgerUnavailable
from ledger.models import Kind
from ledger.outcomes import DueCall
from ledger.retries import Cause
from modal_apps.announce import Announcement
from workers.overflow.breaker import AT_ONCE, Gate
from workers.overflow.classify import CallFailed, CallOutcome, CallPending, CallSucceeded, CallUnknown, classify
from workers.overflow.completer import Completer
from workers.overflow.modal_sdk.port import ModalCalls
from workers.overflow.reservations import Coverage, TopUps
from workers.overflow.schedule import Schedule, hints_suffice

#: Polls at once; Modal's client stalls near 100 requests.
CONCURRENCY = 30

log = structlog.get_logger(__name__)

#: A call that has ended, and whose result cannot be fetched, is polled for this long beyond its deadline, seconds: it
#: works no more, and its result is paid for.
FETCH_GRACE_S = 600.0
#: After this many polls in a row without an answer, Modal is away, and one poll at a time finds out when it is back.
#: Each may take half a minute then, and delays the top-ups of all calls behind it.
AWAY_AFTER = 10
#: Attempts of train jobs that are ended at once, each in a thread: fetching what they left may take minutes.
SALVAGES_AT_ONCE = 4
#: Modal's answer about the backlog of a class is good for this long, seconds: many calls ask about a few classes.
_BACKLOG_GOOD_FOR_S = 5.0
#: Log levels: that Modal is away is logged for each call; that it refuses the token, once, by the breaker.
_LOUD, _QUIET = 30, 10


class Poller:
    """Polls claimed calls, a bounded number at once. Belongs to one event loop."""

    def __init__(
        self,
        calls: ModalCalls,
        schedule: Schedule,
        completer: Completer,
        gate: Gate,
        top_ups: TopUps,
        settings: Settings,
        deliverers: ThreadPoolExecutor,
    ) -> None:
        self._calls = calls
        self._schedule = schedule
        self._completer = completer
        self._gate = gate
        self._settings = settings
        self._deliverers = deliverers
        self._salvagers = ThreadPoolExecutor(SALVAGES_AT_ONCE, thread_name_prefix="salvage")
        self._exhaustion = Exhaustion(calls, settings, completer.train.may_move)
        self._top_ups = top_ups
        self._at_once = asyncio.Semaphore(CONCURRENCY)
        self._polling = 0
        self._unanswered_in_a_row = 0

    async def poll(self, call: DueCall) -> None:
        """Poll once: complete the call if it has ended, else reschedule it.

        Its reservation comes first: a poll may take long, and when Modal does not answer its calls run on all the same.
        """
        claimed_at = time.monotonic()
        coverage = await self._coverage(call)
        if coverage is Coverage.COVERED and self._needs_no_poll(call):
            self._schedule.reschedule(call, no_later_s=self._next_s(call))
            return
        with self._schedule.kept(call):
            outcome = await self._polled(call)
        match outcome:
            case None:
                self._schedule.reschedule(call, no_later_s=self._next_s(call))
            case CallPending():
                await self._runs(call, coverage)
            case CallUnknown():
                await self._poll_failed(call, outcome)
            case CallFailed(superseded=True) if await self._other_is_followed(call):
                self._schedule.reschedule_in(call, 0.0)
            case CallSucceeded() | CallFailed():
                await self._complete(call, outcome, noticed_ms=call.now_ms + (time.monotonic() - claimed_at) * 1000)

    async def _coverage(self, call: DueCall) -> Coverage:
        """Whether its money lets it go on. An error of ours about it must not keep its result from being fetched."""
        try:
            return await self._top_ups.keep_covered(call)
        except (LedgerUnavailable, LedgerFull):
            raise
        except Exception:
            log.exception("reservation.not_checked")
            return Coverage.COVERED

    async def _polled(self, call: DueCall) -> CallOutcome | None:
        """What Modal says of a call; None: Modal is away, and another poll is finding out whether it still is."""
        async with self._at_once:
            is_away = self._unanswered_in_a_row >= AWAY_AFTER and self._polling > 0
            if is_away and call.now_ms < call.call_deadline_ms:
                return None
            self._polling += 1
            try:
                outcome = classify(await self._calls.poll(call.call_id))
            finally:
                self._polling -= 1
        if not isinstance(outcome, CallUnknown):
            self._gate.poll_answered(call.call_id)
            self._unanswered_in_a_row = 0
        elif outcome.reason is not None:
            self._unanswered_in_a_row += 1
        return outcome

    async def _runs(self, call: DueCall, coverage: Coverage) -> None:
        """It has not ended: whether it may go on."""
        if call.now_ms >= call.call_deadline_ms:
            await self._overdue(call)
        elif await self._exhaustion.has_no_gpu(call):
            await self._no_gpu(call)
        elif coverage is Coverage.USED_UP:
            await self._out_of_budget(call)
        elif self._completer.train.is_due(call):
            await self._mirror_train(call)
        else:
            self._schedule.reschedule(call, no_later_s=self._next_s(call))

    def _needs_no_poll(self, call: DueCall) -> bool:
        """Its hints say that it runs: asking Modal is most of what a call costs, and is left out then."""
        return not self._completer.train.is_due(call) and hints_suffice(call, self._schedule.pace)

    def _next_s(self, call: DueCall) -> float:
        money_s = self._top_ups.next_s(call)
        return min(money_s, self._completer.train.next_s()) if call.kind is Kind.TRAIN else money_s

    async def _poll_failed(self, call: DueCall, unknown: CallUnknown) -> None:
        """Poll again, until its time is over. It has what it needs of the budget by now, or there is no more for it."""
        log.log(_QUIET if unknown.reason in AT_ONCE else _LOUD, "call.poll_failed", error=unknown.message)
        if unknown.reason is not None:
            await asyncio.to_thread(self._gate.poll_failed, call.call_id, unknown.reason)
        beyond_s = (call.now_ms - call.call_deadline_ms) / 1000
        if unknown.has_result and beyond_s >= FETCH_GRACE_S:
            message = f"its result could not be fetched until {beyond_s:g} s after its deadline: {unknown.message}"
            await self._end(call, CallFailed(Cause.RESULT_LOST, message))
        elif not unknown.has_result and beyond_s >= 0:
            await self._overdue(call)
        else:
            self._schedule.reschedule_in(call, self._settings.poll.max_s)

    async def _other_is_followed(self, call: DueCall) -> bool:
        """The call left because another call of its attempt works: whether that one is followed from here on."""
        announced, is_known = await self._announcement(call)
        if is_known and (announced is None or announced.call_id == call.call_id):
            return False
        if announced is not None and await asyncio.to_thread(self._completer.adopt, announced):
            log.warning("orphan.adopted", other_call_id=announced.call_id)
        return True

    async def _announcement(self, call: DueCall) -> tuple[Announcement | None, bool]:
        """The call's announcement, and whether that is known: a Modal that does not answer says nothing of the call."""
        try:
            return await self._calls.announcement(call.job_id, call.attempt), True
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("announcement.not_read", error=f"{type(error).__name__}: {error}")
            return None, False

    async def _mirror_train(self, call: DueCall) -> None:
        """Mirror new checkpoints, and move the run to own GPUs if that pays."""
        context = contextvars.copy_context()
        with self._schedule.kept(call):
            reason = await asyncio.get_running_loop().run_in_executor(
                self._deliverers, lambda: context.run(self._completer.train.tend, call)
            )
        if reason is None:
            self._schedule.reschedule(call, no_later_s=self._next_s(call))
            return
        message = f"it comes home at its last checkpoint: {reason}"
        await self._end(call, CallFailed(Cause.MOVED_HOME, message))

    async def _complete(self, call: DueCall, outcome: CallSucceeded | CallFailed, *, noticed_ms: float) -> None:
        announced = None
        if isinstance(outcome, CallFailed) and outcome.envelope is None:
            announced, is_known = await self._announcement(call)
            if not is_known:
                # The job goes on. The call's cost is booked when Modal says since when it ran (see canceller).
                await self._end(call, outcome)
                return
        context = contextvars.copy_context()
        try:
            with self._schedule.kept(call):
                is_complete = await asyncio.get_running_loop().run_in_executor(
                    self._deliverers,
                    lambda: context.run(self._completer.complete, call, outcome, announced, noticed_ms=noticed_ms),
                )
        except (LedgerUnavailable, LedgerFull):
            raise
        except Exception as error:
            log.exception("call.not_completed")
            await self._not_completed(call, error)
            return
        if not is_complete:
            self._schedule.reschedule_in(call, self._settings.poll.max_s)

    async def _not_completed(self, call: DueCall, error: Exception) -> None:
        """An error of ours about one result: tried again until its time is over, so that the job ends some day."""
        if (call.now_ms - call.call_deadline_ms) / 1000 < FETCH_GRACE_S:
            self._schedule.reschedule_in(call, self._settings.poll.max_s)
            return
        message = f"its result could not be delivered: {type(error).__name__}: {error}"
        await self._end(call, CallFailed(Cause.RESULT_LOST, message))

    async def _overdue(self, call: DueCall) -> None:
        log.warning("call.overdue")
        seconds = (call.call_deadline_ms - call.spawned_ms) / 1000
        message = f"the call had not ended {seconds:g} s after its spawn; it is stopped"
        await self._end(call, CallFailed(Cause.TIMEOUT, message))

    async def _no_gpu(self, call: DueCall) -> None:
        seconds = (call.now_ms - call.spawned_ms) / 1000
        message = f"no {call.gpu} came within {seconds:g} s; another class is tried"
        await self._end(call, CallFailed(Cause.GPU_EXHAUSTED, message))

    async def _out_of_budget(self, call: DueCall) -> None:
        seconds = (call.now_ms - call.spawned_ms) / 1000
        message = f"its reservation was used up after {seconds:g} s, and the budget had no more for it; it is stopped"
        await self._end(call, CallFailed(Cause.BUDGET, message))

    async def _end(self, call: DueCall, failed: CallFailed) -> None:
        """End the attempt now. Its call may still run: the canceller stops it and settles its cost."""
        context = contextvars.copy_context()
        threads = self._salvagers if call.kind is Kind.TRAIN else None
        with self._schedule.kept(call):
            await asyncio.get_running_loop().run_in_executor(
                threads, lambda: context.run(self._completer.fail, call, failed, None, call_may_run=True)
            )


class Exhaustion:
    """Finds calls that wait for a GPU that does not come: another class is tried for those."""

    def __init__(self, calls: ModalCalls, settings: Settings, run_may_move: Callable[[DueCall], bool]) -> None:
        """`run_may_move` blocks, and tells of a train call whether another class than its own would do."""
        self._calls = calls
        self._settings = settings
        self._run_may_move = run_may_move
        self._backlogs: dict[tuple[Kind, str], tuple[float, bool]] = {}

    async def has_no_gpu(self, call: DueCall) -> bool:
        """Whether a call has waited too long, has not begun, and its class has a backlog.

        The hint of its start may be lost. So its announcement is read too, which it makes before it works.
        """
        waited_s = (call.now_ms - call.spawned_ms) / 1000
        if call.begun_ms is not None or waited_s < self._settings.modal.gpu_exhausted_after_s:
            return False
        if not await self._has_backlog(call.kind, call.gpu):
            return False
        if not await self._another_would_do(call):
            return False
        return await self._has_not_begun(call)

    async def _has_not_begun(self, call: DueCall) -> bool:
        try:
            return await self._calls.announcement(call.job_id, call.attempt) is None
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("announcement.not_read", error=f"{type(error).__name__}: {error}")
            return False

    async def _another_would_do(self, call: DueCall) -> bool:
        match call.kind:
            case Kind.RENDER:
                return len(self._settings.modal.render_classes) + len(self._settings.modal.render_fallbacks) > 1
            case Kind.TRAIN:
                return await asyncio.to_thread(self._run_may_move, call)

    async def _has_backlog(self, kind: Kind, gpu: str) -> bool:
        at, known = self._backlogs.get((kind, gpu), (float("-inf"), False))
        if time.monotonic() - at < _BACKLOG_GOOD_FOR_S:
            return known
        try:
            known = (await self._calls.pool(gpu, kind=kind)).backlog > 0
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("pool.not_read", gpu=gpu, error=f"{type(error).__name__}: {error}")
            known = False
        self._backlogs[kind, gpu] = (time.monotonic(), known)
        return known
