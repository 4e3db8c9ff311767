"""The follower: what one process does for the calls in flight, in one event loop, until it is stopped.

It holds nothing that the ledger does not know: calls are claimed for a while, partitions of hints are leased, duties
too. So any number of followers share the work, and one that dies is replaced when what it held has lapsed.
"""

import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from infra.logs import bound
from ledger import LedgerError
from ledger.following import Announced
from ledger.outcomes import DueCall, DueCancel
from workers.overflow.calls import ModalCalls
from workers.overflow.claims import KEEP_EVERY_S, Claims
from workers.overflow.conclusions import Conclusions
from workers.overflow.duties import Duty, duties_of
from workers.overflow.gate import Gate
from workers.overflow.hints import HintDrain
from workers.overflow.looks import Looks
from workers.overflow.orphans import OrphanSweep
from workers.overflow.pacing import Pace
from workers.overflow.stops import Stops
from workers.overflow.tending import BreakerTender
from workers.overflow.topups import TopUps
from workers.resources import Resources

log = structlog.get_logger(__name__)

#: Deliveries to S3 at once, each in a thread.
DELIVERIES_AT_ONCE = 8
#: Shortest and longest pause between two rounds, seconds.
SHORTEST_S, LONGEST_S = 0.1, 0.25
#: It is looked for calls to be stopped so often, seconds.
STOPS_EVERY_S = 0.25
#: Pause when the ledger is away, seconds.
AWAY_S = 1.0
#: The breaker is looked after so often, seconds.
TEND_EVERY_S = 1.0


class Follower:
    """Follows calls until it is stopped. `run` is a coroutine; `wake_and_stop` may be called from any thread."""

    def __init__(self, open_ends: Resources, calls: ModalCalls, gate: Gate) -> None:
        self._open = open_ends
        self._ledger = open_ends.ledger
        self._calls = calls
        self._gate = gate
        self._settings = open_ends.settings
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        self._deliverers = ThreadPoolExecutor(DELIVERIES_AT_ONCE, thread_name_prefix="delivery")
        self._stopping = threading.Event()
        self._wake: Callable[[], None] = lambda: None

    def wake_and_stop(self) -> None:
        """Stop when what is in hand is done; may be called twice."""
        self._stopping.set()
        self._wake()

    async def run(self) -> None:
        """Follow until stopped. What takes long never holds up the rest."""
        # All of this is of this loop: a follower that stumbled is begun again in a new one.
        loop = asyncio.get_running_loop()
        awake = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(awake.set)

        self._wake = wake
        settings = self._settings
        pace = Pace(settings.poll_first_s, settings.poll_max_s, settings.poll_hinted_s, settings.looks_per_s)
        claims = Claims(self._ledger, pace)
        conclusions = Conclusions(self._open)
        top_ups = TopUps(self._ledger, settings)
        looks = Looks(self._calls, claims, conclusions, self._gate, top_ups, settings, self._deliverers)
        stops = Stops(self._ledger, self._calls, conclusions, settings)
        orphans = OrphanSweep(self._ledger, self._calls, settings, owner=self._owner)
        tender = BreakerTender(self._ledger, self._calls, self._gate)
        in_hand = _InHand(settings.follow_batch)

        def on_strangers(found: Sequence[Announced]) -> None:
            in_hand.begin(_survived(orphans.strangers(found)), counts=False)

        drain = HintDrain(
            self._ledger, self._calls, claims, owner=self._owner, on_ends=awake.set, on_strangers=on_strangers
        )
        background = [
            asyncio.create_task(self._again_and_again(drain.run, TEND_EVERY_S)),
            asyncio.create_task(self._again_and_again(tender.tend, TEND_EVERY_S)),
            asyncio.create_task(self._again_and_again(orphans.if_due, TEND_EVERY_S)),
            *(asyncio.create_task(self._again_and_again(duty.run, duty.every_s)) for duty in self._duties()),
        ]
        keeper = asyncio.create_task(self._again_and_again(claims.keep, KEEP_EVERY_S))
        try:
            await self._follow(claims, looks, stops, in_hand, awake)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await in_hand.finish()
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await claims.give_back()
            await asyncio.to_thread(drain.leave)

    def _duties(self) -> Sequence[Duty]:
        return duties_of(self._open, self._calls, owner=self._owner)

    async def _follow(
        self, claims: Claims, looks: Looks, stops: Stops, in_hand: "_InHand", awake: asyncio.Event
    ) -> None:
        """Take what is due, again and again."""

        async def one_look(call: DueCall) -> None:
            with bound(**call.log_context()):
                await _survived(looks.look(call))

        async def one_stop(cancel: DueCancel) -> None:
            with bound(job_id=cancel.job_id, attempt=cancel.attempt, call_id=cancel.call_id):
                await _survived(stops.stop(cancel))

        stops_at = 0.0
        while not self._stopping.is_set():
            awake.clear()
            pause_s = LONGEST_S
            try:
                await claims.give_back()
                if in_hand.room > 0:
                    due = await claims.take(in_hand.room)
                    for call in due.calls:
                        in_hand.begin(one_look(call))
                    pause_s = min(LONGEST_S, due.next_in_s if due.next_in_s is not None else LONGEST_S)
                if time.monotonic() >= stops_at:
                    stops_at = time.monotonic() + STOPS_EVERY_S
                    for cancel in await stops.take():
                        in_hand.begin(one_stop(cancel), counts=False)
            except LedgerError as error:
                log.warning("follower.ledger_away", error=str(error))
                pause_s = AWAY_S
            except Exception:
                # What was claimed falls due again. The hints, the sweeps and the calls in flight go on meanwhile.
                log.exception("follower.stumbled")
                pause_s = AWAY_S
            await _until(awake, max(SHORTEST_S, pause_s))

    async def _again_and_again(self, work: Callable[[], Awaitable[None]], every_s: float) -> None:
        while True:
            await _survived(work())
            await asyncio.sleep(every_s)


async def _until(awake: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await awake.wait()
    except TimeoutError:
        return
    # Woken: leave a moment for more of the same to gather, and for the results to be there.
    await asyncio.sleep(SHORTEST_S)


async def _survived(work: Awaitable[None]) -> None:
    """One call's trouble is not another's; its claim lapses, and it falls due again."""
    try:
        await work
    except LedgerError as error:
        log.warning("follower.ledger_away", error=str(error))
    except Exception:
        log.exception("follower.stumbled")


class _InHand:
    """The tasks that run now, bounded."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()
        self._uncounted = 0

    @property
    def room(self) -> int:
        """How many more may begin."""
        return self._most - len(self._tasks) + self._uncounted

    def begin(self, work: Coroutine[None, None, None], *, counts: bool = True) -> None:
        """Begin one."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._uncounted += not counts

        def ended(done: "asyncio.Task[None]") -> None:
            self._tasks.discard(done)
            self._uncounted -= not counts

        task.add_done_callback(ended)

    async def finish(self) -> None:
        """Wait for all that has begun."""
        if self._tasks:
            await asyncio.wait(self._tasks)
