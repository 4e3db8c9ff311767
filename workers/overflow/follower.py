"""The follower: what one process does for the calls in flight, in one event loop, until it is stopped.

It holds nothing that the ledger does not know: calls are claimed for a while, partitions of hints and duties are
leased. So any number of followers share the work, and one that dies is replaced when its claims have lapsed.
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
from ledger.outcomes import DueCall, DueCancel
from ledger.polling import Announced
from workers.overflow.breaker import BreakerProbe, Gate
from workers.overflow.canceller import Canceller
from workers.overflow.classify import failure_reason_of
from workers.overflow.completer import Completer
from workers.overflow.hints import HintDrain
from workers.overflow.modal_sdk.port import ModalCalls
from workers.overflow.orphans import OrphanSweep
from workers.overflow.poller import Poller
from workers.overflow.reservations import TopUps
from workers.overflow.schedule import KEEP_EVERY_S, Pace, Schedule
from workers.overflow.wiring import duties_of
from workers.resources import Resources

#: Calls that a follower claims at a time.
CLAIM_BATCH = 200

log = structlog.get_logger(__name__)

#: Deliveries to S3 at once, each in a thread.
DELIVERIES_AT_ONCE = 8
#: Shortest and longest pause between two rounds, seconds.
SHORTEST_S, LONGEST_S = 0.1, 0.25
#: Interval of the search for calls to be cancelled, seconds.
CANCELS_EVERY_S = 0.25
#: Pause when the ledger is away, seconds.
AWAY_S = 1.0
#: Pause between two rounds of the loops beside: hints, breaker probe, orphan sweep, seconds.
LOOP_PAUSE_S = 1.0


class Follower:
    """Follows calls until it is stopped. `run` is a coroutine; `wake_and_stop` may be called from any thread."""

    def __init__(self, resources: Resources, calls: ModalCalls, gate: Gate) -> None:
        self._resources = resources
        self._ledger = resources.ledger
        self._calls = calls
        self._gate = gate
        self._settings = resources.settings
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{random.getrandbits(32):08x}"
        self._deliverers = ThreadPoolExecutor(DELIVERIES_AT_ONCE, thread_name_prefix="delivery")
        self._stopping = threading.Event()
        self._wake: Callable[[], None] = lambda: None

    def wake_and_stop(self) -> None:
        """Stop when the work in flight is done; may be called twice."""
        self._stopping.set()
        self._wake()

    async def run(self) -> None:
        """Follow until stopped. What takes long never holds up the rest."""
        # Everything here belongs to this loop: a follower that crashed is begun again in a new one.
        loop = asyncio.get_running_loop()
        awake = asyncio.Event()

        def wake() -> None:
            loop.call_soon_threadsafe(awake.set)

        self._wake = wake
        settings = self._settings
        pace = Pace(settings.poll.first_s, settings.poll.max_s, settings.poll.hinted_s, settings.poll.rate_per_s)
        schedule = Schedule(self._ledger, pace)
        completer = Completer(self._resources)
        top_ups = TopUps(self._ledger, settings)
        poller = Poller(self._calls, schedule, completer, self._gate, top_ups, settings, self._deliverers)
        canceller = Canceller(self._ledger, self._calls, completer, settings)
        orphans = OrphanSweep(self._ledger, self._calls, settings, owner=self._owner)
        probe = BreakerProbe(self._ledger, self._gate, self._calls.probe, failure_reason_of)
        in_flight = _InFlight(CLAIM_BATCH)

        def on_unrecorded(found: Sequence[Announced]) -> None:
            in_flight.begin(_recovered(orphans.compare_unrecorded(found)), counts=False)

        drain = HintDrain(
            self._ledger, self._calls, schedule, owner=self._owner, on_ends=awake.set, on_unrecorded=on_unrecorded
        )
        duties = duties_of(self._resources, self._calls, owner=self._owner)
        background = [
            asyncio.create_task(_repeated(drain.run, LOOP_PAUSE_S)),
            asyncio.create_task(_repeated(probe.probe_if_due, LOOP_PAUSE_S)),
            asyncio.create_task(_repeated(orphans.if_due, LOOP_PAUSE_S)),
            *(asyncio.create_task(_repeated(duty.run, duty.every_s)) for duty in duties),
        ]
        keeper = asyncio.create_task(_repeated(schedule.keep, KEEP_EVERY_S))
        try:
            await self._follow(schedule, poller, canceller, in_flight, awake)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await in_flight.finish()
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            await schedule.flush()
            await asyncio.to_thread(drain.leave)

    async def _follow(
        self, schedule: Schedule, poller: Poller, canceller: Canceller, in_flight: "_InFlight", awake: asyncio.Event
    ) -> None:
        """Take what is due, round by round."""

        async def poll(call: DueCall) -> None:
            with bound(**call.log_context()):
                await _recovered(poller.poll(call))

        async def cancel(due: DueCancel) -> None:
            with bound(**due.log_context()):
                await _recovered(canceller.cancel(due))

        cancels_at = 0.0
        while not self._stopping.is_set():
            awake.clear()
            pause_s = LONGEST_S
            try:
                await schedule.flush()
                if in_flight.room > 0:
                    due = await schedule.claim_due(in_flight.room)
                    for call in due.calls:
                        in_flight.begin(poll(call))
                    pause_s = min(LONGEST_S, due.next_in_s if due.next_in_s is not None else LONGEST_S)
                if time.monotonic() >= cancels_at:
                    cancels_at = time.monotonic() + CANCELS_EVERY_S
                    for one in await canceller.claim():
                        in_flight.begin(cancel(one), counts=False)
            except LedgerError as error:
                log.warning("follower.ledger_away", error=str(error))
                pause_s = AWAY_S
            except Exception:
                # What was claimed falls due again. The hints, the sweeps and the calls in flight go on meanwhile.
                log.exception("follower.crashed")
                pause_s = AWAY_S
            await _until(awake, max(SHORTEST_S, pause_s))


async def _repeated(work: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        await _recovered(work())
        await asyncio.sleep(every_s)


async def _until(awake: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await awake.wait()
    except TimeoutError:
        return
    # Woken: leave a moment for more of the same to gather, and for the results to be there.
    await asyncio.sleep(SHORTEST_S)


async def _recovered(work: Awaitable[None]) -> None:
    """An error about one call does not reach the others; its claim lapses, and it falls due again."""
    try:
        await work
    except LedgerError as error:
        log.warning("follower.ledger_away", error=str(error))
    except Exception:
        log.exception("follower.crashed")


class _InFlight:
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
