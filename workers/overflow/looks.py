"""One look at a call, and what follows from it."""

import asyncio
import contextvars
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from infra.settings import Settings
from ledger import LedgerFull, LedgerUnavailable
from ledger.models import Kind
from ledger.outcomes import DueCall
from ledger.retries import Cause
from modal_apps.announce import Announcement
from workers.overflow.breaker import AT_ONCE
from workers.overflow.calls import ModalCalls
from workers.overflow.claims import Claims
from workers.overflow.conclusions import Conclusions
from workers.overflow.endings import AskAgain, Ended, Ending, Pending, Succeeded, classify
from workers.overflow.exhaustion import Exhaustion
from workers.overflow.gate import Gate
from workers.overflow.pacing import hints_vouch
from workers.overflow.topups import TopUps, Verdict

log = structlog.get_logger(__name__)

#: A call that has ended, and whose result cannot be fetched, is asked about for so long beyond its deadline, seconds:
#: it works no more, and its result is paid for.
FETCH_GRACE_S = 600.0
#: When so many looks in a row were not answered, Modal is away, and one look at a time finds out when it is back. Each
#: may take half a minute then, and who waits for one sees to no other call's money.
AWAY_AFTER = 10
#: Attempts of train jobs that are ended at once, each in a thread: what they left may take minutes to bring home.
SALVAGES_AT_ONCE = 4


class Looks:
    """Looks at claimed calls, a bounded number at once. Of one event loop."""

    def __init__(
        self,
        calls: ModalCalls,
        claims: Claims,
        conclusions: Conclusions,
        gate: Gate,
        top_ups: TopUps,
        settings: Settings,
        deliverers: ThreadPoolExecutor,
    ) -> None:
        self._calls = calls
        self._claims = claims
        self._conclusions = conclusions
        self._gate = gate
        self._settings = settings
        self._deliverers = deliverers
        self._salvagers = ThreadPoolExecutor(SALVAGES_AT_ONCE, thread_name_prefix="salvage")
        self._exhaustion = Exhaustion(calls, settings, conclusions.train.may_move)
        self._top_ups = top_ups
        self._at_once = asyncio.Semaphore(settings.follow_concurrency)
        self._asking = 0
        self._unanswered_in_a_row = 0

    async def look(self, call: DueCall) -> None:
        """Look once: conclude it if it has ended, else give it back for the next look.

        Its money is seen to first: a look may take long, and when Modal cannot be asked its calls run on all the same.
        """
        claimed_at = time.monotonic()
        verdict = await self._covered(call)
        if verdict is Verdict.GO_ON and self._goes_on_unlooked(call):
            self._claims.again(call, no_later_s=self._next_s(call))
            return
        with self._claims.kept(call):
            ending = await self._asked(call)
        match ending:
            case None:
                self._claims.again(call, no_later_s=self._next_s(call))
            case Pending():
                await self._runs(call, verdict)
            case AskAgain():
                await self._not_asked(call, ending)
            case Ended(superseded=True) if await self._other_is_followed(call):
                self._claims.again_in(call, 0.0)
            case Succeeded() | Ended():
                await self._conclude(call, ending, noticed_ms=call.now_ms + (time.monotonic() - claimed_at) * 1000)

    async def _covered(self, call: DueCall) -> Verdict:
        """Whether its money lets it go on. An error of ours about it must not keep its result from being fetched."""
        try:
            return await self._top_ups.keep_covered(call)
        except (LedgerUnavailable, LedgerFull):
            raise
        except Exception:
            log.exception("reservation.not_asked")
            return Verdict.GO_ON

    async def _asked(self, call: DueCall) -> Ending | None:
        """What Modal says of a call; None: it is away, and somebody else is finding out whether it still is."""
        async with self._at_once:
            is_away = self._unanswered_in_a_row >= AWAY_AFTER and self._asking > 0
            if is_away and call.now_ms < call.call_deadline_ms:
                return None
            self._asking += 1
            try:
                ending = classify(await self._calls.look(call.call_id))
            finally:
                self._asking -= 1
        if not isinstance(ending, AskAgain):
            self._gate.asked(call.call_id)
            self._unanswered_in_a_row = 0
        elif ending.trouble is not None:
            self._unanswered_in_a_row += 1
        return ending

    async def _runs(self, call: DueCall, verdict: Verdict) -> None:
        """It has not ended: whether it may go on."""
        if call.now_ms >= call.call_deadline_ms:
            await self._overdue(call)
        elif await self._exhaustion.has_no_gpu(call):
            await self._no_gpu(call)
        elif verdict is Verdict.STOP:
            await self._out_of_budget(call)
        elif self._conclusions.train.is_due(call):
            await self._tend_train(call)
        else:
            self._claims.again(call, no_later_s=self._next_s(call))

    def _goes_on_unlooked(self, call: DueCall) -> bool:
        """Its hints say that it runs: asking Modal is most of what a call costs, and is left out then."""
        return not self._conclusions.train.is_due(call) and hints_vouch(call, self._claims.pace)

    def _next_s(self, call: DueCall) -> float:
        money_s = self._top_ups.next_s(call)
        return min(money_s, self._conclusions.train.next_s()) if call.kind is Kind.TRAIN else money_s

    async def _not_asked(self, call: DueCall, ending: AskAgain) -> None:
        """Ask again, until its time is over. What it needs of the budget it has by now, or there is no more for it."""
        log.log(_QUIET if ending.trouble in AT_ONCE else _LOUD, "call.not_asked", error=ending.reason)
        if ending.trouble is not None:
            await asyncio.to_thread(self._gate.not_asked, call.call_id, ending.trouble)
        beyond_s = (call.now_ms - call.call_deadline_ms) / 1000
        if ending.has_result and beyond_s >= FETCH_GRACE_S:
            message = f"its result could not be fetched until {beyond_s:g} s after its deadline: {ending.reason}"
            await self._stopped_by_us(call, Ended(Cause.RESULT_LOST, message))
        elif not ending.has_result and beyond_s >= 0:
            await self._overdue(call)
        else:
            self._claims.again_in(call, self._settings.poll_max_s)

    async def _other_is_followed(self, call: DueCall) -> bool:
        """The call has left because another one of its attempt works: whether that one is followed from here on."""
        announced, is_known = await self._announcement(call)
        if is_known and (announced is None or announced.call_id == call.call_id):
            return False
        if announced is not None and await asyncio.to_thread(self._conclusions.adopt, announced):
            log.warning("orphan.adopted", other_call_id=announced.call_id)
        return True

    async def _announcement(self, call: DueCall) -> tuple[Announcement | None, bool]:
        """What it has said of itself, and whether that is known: that Modal cannot be asked is no word of the call."""
        try:
            return await self._calls.announcement(call.job_id, call.attempt), True
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("announcement.not_asked", error=f"{type(error).__name__}: {error}")
            return None, False

    async def _tend_train(self, call: DueCall) -> None:
        """Bring new checkpoints home, and with them the run, if that pays."""
        context = contextvars.copy_context()
        with self._claims.kept(call):
            reason = await asyncio.get_running_loop().run_in_executor(
                self._deliverers, lambda: context.run(self._conclusions.train.tend, call)
            )
        if reason is None:
            self._claims.again(call, no_later_s=self._next_s(call))
            return
        message = f"it comes home at its last checkpoint: {reason}"
        await self._stopped_by_us(call, Ended(Cause.MOVED_HOME, message))

    async def _conclude(self, call: DueCall, ending: Succeeded | Ended, *, noticed_ms: float) -> None:
        announced = None
        if isinstance(ending, Ended) and ending.envelope is None:
            announced, is_known = await self._announcement(call)
            if not is_known:
                # The job goes on. What the call cost is booked when Modal says since when it ran (see stops).
                await self._stopped_by_us(call, ending)
                return
        context = contextvars.copy_context()
        with self._claims.kept(call):
            concluded = await asyncio.get_running_loop().run_in_executor(
                self._deliverers,
                lambda: context.run(self._conclusions.conclude, call, ending, announced, noticed_ms=noticed_ms),
            )
        if not concluded:
            self._claims.again_in(call, self._settings.poll_max_s)

    async def _overdue(self, call: DueCall) -> None:
        log.warning("call.overdue")
        seconds = (call.call_deadline_ms - call.spawned_ms) / 1000
        message = f"the call had not ended {seconds:g} s after its spawn; it is stopped"
        await self._stopped_by_us(call, Ended(Cause.TIMEOUT, message))

    async def _no_gpu(self, call: DueCall) -> None:
        seconds = (call.now_ms - call.spawned_ms) / 1000
        message = f"no {call.gpu} came within {seconds:g} s; another class is tried"
        await self._stopped_by_us(call, Ended(Cause.GPU_EXHAUSTED, message))

    async def _out_of_budget(self, call: DueCall) -> None:
        seconds = (call.now_ms - call.spawned_ms) / 1000
        message = f"its reservation was used up after {seconds:g} s, and the budget had no more for it; it is stopped"
        await self._stopped_by_us(call, Ended(Cause.BUDGET, message))

    async def _stopped_by_us(self, call: DueCall, ended: Ended) -> None:
        context = contextvars.copy_context()
        threads = self._salvagers if call.kind is Kind.TRAIN else None
        with self._claims.kept(call):
            await asyncio.get_running_loop().run_in_executor(
                threads, lambda: context.run(self._conclusions.fail, call, ended, None, call_may_run=True)
            )


#: Levels: Modal being away is told for each call; a token that is refused is told once, by the gate.
_LOUD, _QUIET = 30, 10
