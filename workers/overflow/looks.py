"""One look at a call, and what follows from it."""

import asyncio
import contextvars
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from ledger.models import Kind
from ledger.outcomes import DueCall
from ledger.retries import Cause
from workers.overflow.calls import ModalCalls
from workers.overflow.claims import Claims
from workers.overflow.conclusions import Conclusions
from workers.overflow.endings import AskAgain, Ended, Pending, Succeeded, classify
from workers.overflow.exhaustion import Exhaustion
from workers.overflow.gate import Gate
from workers.overflow.pacing import hints_vouch
from workers.overflow.topups import TopUps, Verdict
from workers.settings import Settings

log = structlog.get_logger(__name__)


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
        self._exhaustion = Exhaustion(calls, settings, conclusions.train.may_move)
        self._top_ups = top_ups
        self._at_once = asyncio.Semaphore(settings.follow_concurrency)

    async def look(self, call: DueCall) -> None:
        """Look once: conclude it if it has ended, else give it back for the next look."""
        if await self._goes_on_unlooked(call):
            self._claims.again(call, no_later_s=self._next_s(call))
            return
        claimed_at = time.monotonic()
        async with self._at_once:
            ending = classify(await self._calls.look(call.call_id))
        match ending:
            case Pending() if call.now_ms >= call.call_deadline_ms:
                await self._overdue(call)
            case Pending() if await self._exhaustion.has_no_gpu(call):
                await self._no_gpu(call)
            case Pending() if await self._top_ups.keep_covered(call) is Verdict.STOP:
                await self._out_of_budget(call)
            case Pending() if self._conclusions.train.is_due(call):
                await self._tend_train(call)
            case Pending():
                self._claims.again(call, no_later_s=self._next_s(call))
            case AskAgain(reason, trouble):
                log.log(_LOUD if trouble is None else _QUIET, "call.not_asked", error=reason)
                if trouble is not None:
                    await asyncio.to_thread(self._gate.failed, trouble)
                self._claims.again_in(call, self._settings.poll_max_s)
            case Succeeded() | Ended():
                await self._conclude(call, ending, noticed_ms=call.now_ms + (time.monotonic() - claimed_at) * 1000)

    async def _goes_on_unlooked(self, call: DueCall) -> bool:
        """Its hints say that it runs, and it may: asking Modal is most of what a call costs, and is left out then."""
        if self._conclusions.train.is_due(call) or not hints_vouch(call, self._claims.pace):
            return False
        return await self._top_ups.keep_covered(call) is Verdict.GO_ON

    def _next_s(self, call: DueCall) -> float:
        money_s = self._top_ups.next_s(call)
        return min(money_s, self._conclusions.train.next_s()) if call.kind is Kind.TRAIN else money_s

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
        if ending.envelope is None:
            announced = await self._calls.announcement(call.job_id, call.attempt)
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
        await asyncio.to_thread(self._conclusions.fail, call, ended, None, call_may_run=True)


#: Levels: Modal being away is told for each call; a refused token is told once, by the gate.
_LOUD, _QUIET = 30, 10
