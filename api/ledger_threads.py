"""The ledger behind a bounded pool of threads: a slow Redis slows the requests that need it, never the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from ledger.errors import LedgerUnavailable
from ledger.server import address_of
from ledger.store import Ledger

T = TypeVar("T")

#: Calls to the ledger at once. One takes about a millisecond, so this is thousands a second.
THREADS = 16
#: Longest time from asking to giving up, seconds: a submission is answered within 2 s even if Redis hangs.
ANSWER_WITHIN_S = 1.2


class LedgerThreads:
    """Runs work against the ledger. Only for use from one event loop."""

    def __init__(self, ledger: Ledger, *, threads: int = THREADS, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self.ledger = ledger
        self._address = address_of(ledger.settings.url.get_secret_value())
        self._answer_within_s = answer_within_s
        self._slots = asyncio.Semaphore(threads)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="ledger")

    async def call(self, work: Callable[[Ledger], T]) -> T:
        """Run `work` in a thread.

        Raises:
            LedgerUnavailable: there was no free thread, or no answer, in time. The work may still be done whole later.
            LedgerError: any error of the ledger.
        """
        try:
            async with asyncio.timeout(self._answer_within_s):
                await self._slots.acquire()
                return await asyncio.wrap_future(self._start(work))
        except TimeoutError:
            raise LedgerUnavailable(self._address, f"nothing for {self._answer_within_s:g} s") from None

    def _start(self, work: Callable[[Ledger], T]) -> Future[T]:
        loop = asyncio.get_running_loop()

        def release(_: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._slots.release)

        # The slot is held until the thread is free, which may be after we have given up waiting for it.
        future = self._pool.submit(copy_context().run, work, self.ledger)
        future.add_done_callback(release)
        return future

    def stop(self) -> None:
        """Wait for what runs (the ledger bounds it) and close the connection; may be called twice."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.ledger.close()
