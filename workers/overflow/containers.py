"""Containers: warm ones before a known peak, idle windows that fit, and idle ones that are gone already.

**Warm.** Containers are up before a forecast peak, or because an operator wished for them, and no longer. They count
under the caps on what is alive before Modal is told of them. What they cost while nothing runs in them is booked a
round ahead (component `warm`), under every dollar cap and, for forecasts, a ceiling of their own a day; Modal's bill
corrects it. When it may not be paid, they go.

**Forecast.** Pure. Jobs an hour times the seconds that each takes are the busy GPUs; what in-house cannot take comes to
Modal. Only a share of those is kept warm, since an idle container costs as much as a busy one.

**Idle.** When a call ends, its container's whole idle window is reserved. A container that dies earlier, or that Modal
takes away, would keep its tail reserved for nothing. So, while tails are reserved, Modal is asked how many containers
exist: those that are gone are paid up to now, and the rest is released.
"""

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from infra.settings import MICROS_PER_USD
from ledger import Kind, Ledger, LedgerFull, LedgerUnavailable
from ledger.budget import Prewarm
from ledger.outcomes import Refused
from ledger.warming import HOURS_PER_WEEK, Arrivals, WarmHeld, WarmPool, WarmTerms
from workers.overflow.breaker import Phase, breaker_from_json
from workers.overflow.modal_sdk.port import ModalCalls
from workers.placement.gpu import GpuNeed
from workers.resources import Resources

#: Share of an hour's picture that stays when the next week's is folded in.
KEEP_RATIO = 0.6
#: Share of the GPUs that a peak should need on Modal that is warm before it.
WARM_SHARE = 0.5

log = structlog.get_logger(__name__)

#: A redeploy resets Modal's numbers, so they are set again after this number of rounds.
_SET_AGAIN_ROUNDS = 20


@dataclass(frozen=True)
class Wanted:
    """How many of a class, and who wants them."""

    number: int
    why: str
    #: Whether a forecast wants them: then the day's ceiling holds.
    forecast: bool


@dataclass(frozen=True)
class Setting:
    """What Modal is told of a class."""

    number: int
    buffer: int
    #: Seconds; None: as it was deployed.
    window_s: int | None


_NONE_WANTED = Wanted(0, "nobody wants it", forecast=False)


class WarmKeeper:
    """Keeps renderers warm. One follower at a time has the duty."""

    def __init__(self, resources: Resources, calls: ModalCalls, need: GpuNeed, *, every_s: float) -> None:
        self._ledger = resources.ledger
        self._settings = resources.settings
        self._calls = calls
        self._need = need
        self._every_s = every_s
        self._rounds = 0
        self._as_set: dict[str, Setting] = {}
        self._refused: dict[str, str] = {}

    async def keep(self) -> None:
        """One round.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        self._rounds += 1
        if self._rounds % _SET_AGAIN_ROUNDS == 0:
            self._as_set.clear()
        found = await asyncio.to_thread(self._ledger.money.kept_warm)
        kept = {gpu: number for (kind, gpu), number in found.items() if kind is Kind.RENDER}
        week = await self._week()
        wanted = await self._wanted(week)
        windows = self._windows(week)
        for gpu in sorted({*kept, *wanted, *windows}):
            try:
                await self._keep_class(gpu, wanted.get(gpu, _NONE_WANTED), kept.get(gpu, 0), windows.get(gpu))
            except (LedgerUnavailable, LedgerFull):
                raise
            except Exception:
                # An error about one class does not reach the others.
                log.exception("warm.not_kept", gpu=gpu)

    async def _week(self) -> Arrivals | None:
        """What is learnt of arrivals and cold starts, if the settings want any of it."""
        if self._settings.warm.usd_per_day <= 0 and self._settings.modal.window != "measured":
            return None
        keep_ratio = KEEP_RATIO
        return await asyncio.to_thread(self._ledger.money.arrivals, Kind.RENDER, keep_ratio=keep_ratio)

    async def _wanted(self, week: Arrivals | None) -> dict[str, Wanted]:
        """What forecasts and operators want, the larger of both."""
        wanted: dict[str, Wanted] = {}
        chosen = self._need.choose()
        number = await self._forecast(week)
        if chosen is not None and number > 0:
            wanted[chosen.name] = Wanted(number, "a peak is expected", forecast=True)
        wishes: list[Prewarm] = await asyncio.to_thread(self._ledger.money.prewarms)
        for wish in wishes:
            here = wanted.get(wish.gpu)
            if wish.kind is Kind.RENDER and (here is None or wish.number >= here.number):
                wanted[wish.gpu] = Wanted(wish.number, f"wished by {wish.who}", forecast=False)
        return wanted

    async def _forecast(self, week: Arrivals | None) -> int:
        if week is None or week.mean_run_s is None or self._settings.warm.usd_per_day <= 0:
            return 0
        view = await asyncio.to_thread(self._ledger.placement.view)
        stored = await asyncio.to_thread(self._ledger.modal_calls.breaker)
        if view.override == "off" or breaker_from_json(stored.memory).phase is Phase.OPEN:
            return 0  # nothing would spill into them
        jobs_per_h = expected_jobs_per_h(week.by_hour, now_ms=week.now_ms, lead_s=self._settings.warm.lead_s)
        peak = Peak(jobs_per_h, week.mean_run_s, view.of(Kind.RENDER).live_slots)
        return warm_number(peak, share=WARM_SHARE, most=self._settings.warm.most)

    def _windows(self, week: Arrivals | None) -> Mapping[str, int]:
        """The idle window of each class that renders run on, from its own cold starts."""
        if week is None or self._settings.modal.window != "measured":
            return {}
        classes = (*self._settings.modal.render_classes, *self._settings.modal.render_fallbacks)
        return {
            gpu: idle_window_s(week.mean_cold_starts_s[gpu], most_s=self._settings.modal.scaledown_window_s)
            for gpu in classes
            if gpu in week.mean_cold_starts_s
        }

    async def _keep_class(self, gpu: str, wanted: Wanted, kept: int, window_s: int | None) -> None:
        """Hold what fits, tell Modal, pay for what it keeps then."""
        held = await self._held(gpu, wanted)
        setting = Setting(held.number, held.buffer, window_s)
        if self._as_set.get(gpu) == setting or await self._set(gpu, setting, why=wanted.why):
            await self._pay(gpu, setting.number, setting.buffer, wanted)
        else:
            # It keeps what it kept.
            await self._pay(gpu, kept, self._buffer(kept), wanted)

    async def _held(self, gpu: str, wanted: Wanted) -> WarmHeld:
        if wanted.number == 0:
            return WarmHeld(0, 0)
        pool = self._pool(gpu, wanted.number, self._buffer(wanted.number))
        held = await asyncio.to_thread(self._ledger.money.hold_warm, pool, self._terms(wanted))
        match held:
            case Refused(reason):
                self._say_refused(gpu, wanted.number, kept=0, reason=reason)
                return WarmHeld(0, 0)
            case WarmHeld(number, _, reason):
                self._say_refused(gpu, wanted.number, kept=number, reason=reason)
                return held

    async def _set(self, gpu: str, setting: Setting, *, why: str) -> bool:
        """Tell Modal. False: it did not take it."""
        number = setting.number
        try:
            await self._calls.keep_warm(
                gpu,
                min_containers=number,
                buffer_containers=setting.buffer,
                scaledown_window_s=setting.window_s,
            )
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; the next round tries again
            log.warning("warm.not_set", gpu=gpu, number=number, error=f"{type(error).__name__}: {error}")
            return False
        self._as_set[gpu] = setting
        await asyncio.to_thread(self._ledger.money.note_kept_warm, Kind.RENDER, gpu, number, why=why)
        log.info("warm.set", gpu=gpu, number=number, buffer=setting.buffer, window_s=setting.window_s, why=why)
        return True

    async def _pay(self, gpu: str, number: int, buffer: int, wanted: Wanted) -> None:
        refused = await asyncio.to_thread(
            self._ledger.money.pay_warm, self._pool(gpu, number, buffer), self._terms(wanted)
        )
        if refused is not None:
            self._say_refused(gpu, number, kept=number, reason=refused.reason)

    def _say_refused(self, gpu: str, number: int, *, kept: int, reason: str | None) -> None:
        """Logged when it changes, not in every round."""
        if reason is None:
            self._refused.pop(gpu, None)
        elif self._refused.get(gpu) != reason:
            self._refused[gpu] = reason
            log.warning("warm.not_paid", gpu=gpu, number=number, kept=kept, reason=reason)

    def _buffer(self, number: int) -> int:
        return self._settings.warm.buffer if number > 0 else 0

    def _pool(self, gpu: str, number: int, buffer: int) -> WarmPool:
        return WarmPool(Kind.RENDER, gpu, number, buffer, self._settings.modal.prices.usd_nanos_per_s(gpu))

    def _terms(self, wanted: Wanted) -> WarmTerms:
        ceiling = round(self._settings.warm.usd_per_day * MICROS_PER_USD) if wanted.forecast else None
        return WarmTerms(self._every_s, ceiling)


MILLISECONDS_PER_HOUR = 3_600_000
SECONDS_PER_HOUR = 3600
#: 1970-01-01 was a Thursday.
_THURSDAY_HOURS = 72
#: Shortest idle window that is set, whatever the cold start, seconds.
SHORTEST_WINDOW_S = 15


@dataclass(frozen=True)
class Peak:
    """What is expected within the next while."""

    jobs_per_h: float
    mean_run_s: float
    inhouse_slots: int

    @property
    def spilled_at_once(self) -> float:
        """GPUs that are busy beyond those in-house."""
        return max(0.0, self.jobs_per_h * self.mean_run_s / SECONDS_PER_HOUR - self.inhouse_slots)


def hour_of_week(at_ms: int) -> int:
    """0 is Monday 00 to 01 UTC."""
    return (at_ms // MILLISECONDS_PER_HOUR + _THURSDAY_HOURS) % HOURS_PER_WEEK


def expected_jobs_per_h(by_hour: Mapping[int, float], *, now_ms: int, lead_s: float) -> float:
    """The busiest hour between now and `lead_s` seconds from now, as weeks have been so far."""
    last = hour_of_week(now_ms + round(lead_s * 1000))
    hour, most = hour_of_week(now_ms), 0.0
    while True:
        most = max(most, by_hour.get(hour, 0.0))
        if hour == last:
            return most
        hour = (hour + 1) % HOURS_PER_WEEK


def warm_number(peak: Peak, *, share: float, most: int) -> int:
    """How many containers to keep warm for a peak.

    Args:
        peak: what is expected.
        share: of the GPUs that it needs on Modal, the share that is warm before it comes.
        most: the upper bound.
    """
    return min(most, math.ceil(peak.spilled_at_once * share - 1e-9))


def idle_window_s(mean_cold_start_s: float, *, most_s: float) -> int:
    """The idle window of a class for its measured cold start, whole seconds.

    A window as long as the cold start costs at most twice the best one, and stays within 21 to 38 % of it on replayed
    traces (research on container billing); the bound is the window that the budget reckons with.
    """
    return int(min(most_s, max(SHORTEST_WINDOW_S, mean_cold_start_s)))


class IdleWatch:
    """Compares idle containers with what Modal says that there is. Renders only: the port asks about the renderer."""

    def __init__(self, ledger: Ledger, calls: ModalCalls) -> None:
        self._ledger = ledger
        self._calls = calls

    async def compare(self) -> None:
        """One round.

        Raises:
            LedgerUnavailable: the ledger went away.
        """
        for kind, gpu in await asyncio.to_thread(self._ledger.modal_calls.idle_pools):
            if kind is not Kind.RENDER:
                continue
            try:
                await self._compare(gpu)
            except (LedgerUnavailable, LedgerFull):
                raise
            except Exception:
                # An error about one class does not reach the others.
                log.exception("pool.not_compared", gpu=gpu)

    async def _compare(self, gpu: str) -> None:
        asked_at = time.monotonic()
        try:
            stats = await self._calls.pool(gpu)
        except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that it is not known
            log.info("pool.not_read", gpu=gpu, error=f"{type(error).__name__}: {error}")
            return
        ended = await asyncio.to_thread(
            self._ledger.modal_calls.idle_ended,
            Kind.RENDER,
            gpu=gpu,
            alive=stats.runners,
            asked_s_ago=time.monotonic() - asked_at,
        )
        if ended.containers:
            log.info("containers.ended_early", gpu=gpu, number=ended.containers)
