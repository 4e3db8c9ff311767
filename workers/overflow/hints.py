"""Hints from running calls: drained from the queue's partitions by long polls, recorded in the ledger in batches.

A follower drains its fair share of the partitions. The ledger says which, and gives those of a dead follower to the
others. A hint that is lost costs time only: each call is polled too.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import structlog

from ledger import Ledger, LedgerError
from ledger.polling import Announced, Hint
from modal_apps.hints import PARTITIONS, CallHint
from workers.isolation import isolated_batch
from workers.overflow.modal_sdk.port import ModalCalls
from workers.overflow.schedule import Schedule

log = structlog.get_logger(__name__)

#: Lease of a follower's share, seconds; it is renewed three times within.
SHARE_LEASE_S = 6.0
_RENEWALS = 3
#: One long poll, seconds, and the items that it brings at most.
POLL_S, POLL_ITEMS = 20.0, 500
#: Pause after Modal could not be asked, seconds.
AWAY_S = 5.0
#: Pause before a task that crashed is begun again, seconds.
AGAIN_S = 0.5
#: Pause between two reads of a partition, seconds, short or long by how many hints the last one brought.
GATHER_S, GATHER_MANY_S, MANY = 0.05, 0.4, 5
#: Interval at which the hints of all partitions are recorded together, seconds.
NOTE_EVERY_S = 0.1
#: A result can be fetched this long after its call announced its end, seconds; a large one later, by its bytes.
RESULT_IN_S, RESULT_BYTES_PER_S = 0.1, 50e6


def to_ledger(hint: CallHint) -> Hint:
    """A hint as the ledger wants it."""
    delay_s = RESULT_IN_S + (hint.result_bytes or 0) / RESULT_BYTES_PER_S
    return Hint(
        job_id=hint.job_id,
        attempt=hint.attempt,
        call_id=hint.call_id,
        what=hint.what,
        progress=hint.percent,
        peak_gpu_memory_bytes=hint.peak_gpu_memory_bytes,
        look_in_s=delay_s if hint.what == "done" else 0.0,
    )


def _readable(hints: Sequence[CallHint]) -> list[Hint]:
    """The same for many; one that cannot be read is dropped."""
    good: list[Hint] = []
    for hint in hints:
        try:
            good.append(to_ledger(hint))
        except (ArithmeticError, TypeError, ValueError) as error:
            _dropped(hint, error)
    return good


def _dropped(hint: CallHint | Hint, error: Exception) -> None:
    log.warning("hints.dropped", job_id=hint.job_id, error=f"{type(error).__name__}: {error}")


class HintDrain:
    """Drains this follower's share of the hints. Of one event loop."""

    def __init__(
        self,
        ledger: Ledger,
        calls: ModalCalls,
        schedule: Schedule,
        *,
        owner: str,
        on_ends: Callable[[], None],
        on_unrecorded: Callable[[Sequence[Announced]], None],
    ) -> None:
        """`on_ends` is called when calls announce their end; `on_unrecorded`, with calls that the ledger lacks."""
        self._ledger = ledger
        self._calls = calls
        self._schedule = schedule
        self._owner = owner
        self._on_ends = on_ends
        self._on_unrecorded = on_unrecorded
        self._drains: dict[int, asyncio.Task[None]] = {}
        self._taken: list[CallHint] = []
        self._has_taken = asyncio.Event()

    async def run(self) -> None:
        """Keep the share, and a drain on each partition of it, until cancelled."""
        noting = asyncio.create_task(self._supervised(self._note_all))
        try:
            while True:
                with contextlib.suppress(LedgerError):
                    await self._share()
                await asyncio.sleep(SHARE_LEASE_S / _RENEWALS)
        finally:
            for task in (noting, *self._drains.values()):
                task.cancel()
            await asyncio.gather(noting, *self._drains.values(), return_exceptions=True)
            self._drains.clear()
            if self._taken:  # they are in no queue any more
                left, self._taken = self._taken, []
                await self._note(left)

    def leave(self) -> None:
        """Let the others have the share at once."""
        with contextlib.suppress(LedgerError):
            self._ledger.modal_calls.share_partitions(owner=self._owner, lease_s=0, partitions=PARTITIONS)

    async def _share(self) -> None:
        shares = await asyncio.to_thread(
            self._ledger.modal_calls.share_partitions, owner=self._owner, lease_s=SHARE_LEASE_S, partitions=PARTITIONS
        )
        self._schedule.followers = max(1, shares.followers)
        mine = set(shares.partitions)
        for number in set(self._drains) - mine:
            # Its long poll may yet bring hints, which are as good from here as from the next one.
            self._drains.pop(number).cancel()
        for number in mine - set(self._drains):
            self._drains[number] = asyncio.create_task(self._supervised(partial(self._drain, number)))

    async def _supervised(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin work again whenever it crashes."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("hints.crashed")
            await asyncio.sleep(AGAIN_S)

    async def _drain(self, partition: int) -> None:
        while True:
            try:
                hints = await self._calls.hints(partition, limit=POLL_ITEMS, wait_s=POLL_S)
            except Exception as error:  # noqa: BLE001 - the SDK raises many types; all mean that there are no hints now
                log.info("hints.not_read", partition=partition, error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(AWAY_S)
                continue
            if hints:
                self._taken += hints
                self._has_taken.set()
                await asyncio.sleep(GATHER_MANY_S if len(hints) >= MANY else GATHER_S)

    async def _note_all(self) -> None:
        """Note what was taken, all partitions together."""
        while True:
            await self._has_taken.wait()
            await asyncio.sleep(NOTE_EVERY_S)
            self._has_taken.clear()
            hints, self._taken = self._taken, []
            for start in range(0, len(hints), POLL_ITEMS):
                await self._note(hints[start : start + POLL_ITEMS])

    async def _note(self, hints: Sequence[CallHint]) -> None:
        try:
            answers = await asyncio.to_thread(
                isolated_batch, _readable(hints), self._ledger.modal_calls.note_hints, _dropped
            )
        except LedgerError as error:
            log.info("hints.not_noted", number=len(hints), error=str(error))
            return
        if unrecorded := [one for answer in answers for one in answer]:
            self._on_unrecorded(unrecorded)
        if any(hint.what == "done" for hint in hints):
            self._on_ends()
