"""The warm keeper: containers that are up before a known peak, or because an operator wished for them, and no longer.

What they cost while nothing runs in them is booked a round ahead (component `warm`), under every dollar cap and, for
forecasts, a ceiling of their own a day; Modal's bill corrects it. When it may not be paid, they go.
"""

import asyncio
from dataclasses import dataclass

import structlog

from ledger import Kind
from ledger.budget import Prewarm
from workers.overflow.calls import ModalCalls
from workers.overflow.forecast import Peak, expected_jobs_per_h, idle_window_s, warm_number
from workers.placement.gpu import GpuNeed
from workers.resources import Resources
from workers.settings import MICROS_PER_USD

log = structlog.get_logger(__name__)

#: A redeploy sets Modal's numbers back, so they are set again after so many rounds.
_SET_AGAIN_ROUNDS = 20


@dataclass(frozen=True)
class Wanted:
    """How many of a class, and who wants them."""

    number: int
    why: str
    #: Whether a forecast wants them: then the day's ceiling holds.
    forecast: bool


class WarmKeeper:
    """Keeps renderers warm. One follower at a time has the duty."""

    def __init__(self, open_ends: Resources, calls: ModalCalls, need: GpuNeed, *, every_s: float) -> None:
        self._open = open_ends
        self._ledger = open_ends.ledger
        self._settings = open_ends.settings
        self._calls = calls
        self._need = need
        self._every_s = every_s
        self._rounds = 0
        self._as_set: dict[str, tuple[int, int | None]] = {}

    async def keep(self) -> None:
        """One round.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        self._rounds += 1
        if self._rounds % _SET_AGAIN_ROUNDS == 0:
            self._as_set.clear()
        found = await asyncio.to_thread(self._ledger.warming.kept)
        kept = [gpu for kind, gpu in found if kind is Kind.RENDER]
        wanted = await self._wanted()
        window_s = await self._window_s()
        for gpu in {*kept, *wanted}:
            await self._keep_class(gpu, wanted.get(gpu, Wanted(0, "nobody wants it", forecast=False)), window_s)

    async def _wanted(self) -> dict[str, Wanted]:
        """What forecasts and operators want, the larger of both."""
        wanted: dict[str, Wanted] = {}
        chosen = self._need.choose()
        number = await self._forecast()
        if chosen is not None and number > 0:
            wanted[chosen.name] = Wanted(number, "a peak is expected", forecast=True)
        wishes: list[Prewarm] = await asyncio.to_thread(self._ledger.budget.prewarms)
        for wish in wishes:
            here = wanted.get(wish.gpu)
            if wish.kind is Kind.RENDER and (here is None or wish.number >= here.number):
                wanted[wish.gpu] = Wanted(wish.number, f"wished by {wish.who}", forecast=False)
        return wanted

    async def _forecast(self) -> int:
        if self._settings.warm_usd_per_day <= 0:
            return 0
        week = await asyncio.to_thread(
            self._ledger.warming.arrivals, Kind.RENDER, keep_ratio=self._settings.warm_keep_ratio
        )
        if week.mean_run_s is None:
            return 0
        view = await asyncio.to_thread(self._ledger.placing.view)
        jobs_per_h = expected_jobs_per_h(week.by_hour, now_ms=week.now_ms, lead_s=self._settings.warm_lead_s)
        peak = Peak(jobs_per_h, week.mean_run_s, view.of(Kind.RENDER).live_slots)
        return warm_number(peak, share=self._settings.warm_share, most=self._settings.warm_most)

    async def _window_s(self) -> int | None:
        if self._settings.modal_window != "measured":
            return None
        week = await asyncio.to_thread(
            self._ledger.warming.arrivals, Kind.RENDER, keep_ratio=self._settings.warm_keep_ratio
        )
        return idle_window_s(week.mean_cold_start_s, most_s=self._settings.modal_scaledown_window_s)

    async def _keep_class(self, gpu: str, wanted: Wanted, window_s: int | None) -> None:
        number = wanted.number
        if number > 0 and not await self._paid(gpu, wanted):
            number = 0
        if self._as_set.get(gpu) == (number, window_s):
            return
        buffer = self._settings.warm_buffer if number > 0 else 0
        try:
            await self._calls.keep_warm(
                gpu, min_containers=number, buffer_containers=buffer, scaledown_window_s=window_s
            )
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; the next round tries again
            log.warning("warm.not_set", gpu=gpu, number=number, error=f"{type(error).__name__}: {error}")
            return
        self._as_set[gpu] = (number, window_s)
        await asyncio.to_thread(self._ledger.warming.note_kept, Kind.RENDER, gpu, number, why=wanted.why)
        log.info("warm.set", gpu=gpu, number=number, why=wanted.why)

    async def _paid(self, gpu: str, wanted: Wanted) -> bool:
        """Book the next round of those that nothing runs in; what runs in the others is its calls'."""
        try:
            busy = (await self._calls.pool(gpu)).running_inputs
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; then all count as idle
            log.info("pool.not_asked", gpu=gpu, error=f"{type(error).__name__}: {error}")
            busy = 0
        idle = max(0, wanted.number - busy)
        rate = self._settings.prices.usd_nanos_per_s(gpu)
        ceiling = round(self._settings.warm_usd_per_day * MICROS_PER_USD) if wanted.forecast else None
        refused = await asyncio.to_thread(
            self._ledger.warming.pay,
            Kind.RENDER,
            gpu,
            idle=idle,
            usd_nanos_per_s=rate,
            round_s=self._every_s,
            limits=self._settings.limits,
            ceiling_usd_micros=ceiling,
        )
        if refused is not None:
            log.warning("warm.not_paid", gpu=gpu, number=wanted.number, reason=refused.reason)
        return refused is None
