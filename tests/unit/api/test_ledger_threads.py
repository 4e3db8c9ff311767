"""A slow ledger slows who needs it, for a bounded time; never the loop, and never beyond the pool."""

import asyncio
import threading
import time

import pytest

from api.ledger_threads import LedgerThreads
from ledger import Ledger, LedgerUnavailable
from ledger.errors import JobNotFound


def unconnected() -> Ledger:
    return Ledger()


def test_answers_and_errors_pass() -> None:
    async def story() -> None:
        threads = LedgerThreads(unconnected())
        assert await threads.call(lambda ledger: ledger.prefix) == "{overspill}"

        def missing(_: Ledger) -> None:
            raise JobNotFound("video_1")

        with pytest.raises(JobNotFound):
            await threads.call(missing)
        threads.stop()
        threads.stop()

    asyncio.run(story())


def test_a_hanging_ledger_is_unavailable_in_time_and_the_loop_goes_on() -> None:
    async def story() -> None:
        # given two threads, both hanging
        go = threading.Event()
        threads = LedgerThreads(unconnected(), threads=2, answer_within_s=0.2)
        hanging = [asyncio.create_task(threads.call(lambda _: go.wait(10))) for _ in range(2)]
        await asyncio.sleep(0)
        # when a third call finds no thread
        began = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            await threads.call(lambda ledger: ledger.prefix)
        # then it gave up in time, and so did those that hang
        assert time.monotonic() - began < 2
        for task in hanging:
            with pytest.raises(LedgerUnavailable):
                await task
        # when the ledger is back, then the threads serve again
        go.set()
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await threads.call(lambda ledger: ledger.prefix) == "{overspill}"
                    break
                except LedgerUnavailable:
                    continue
        threads.stop()

    asyncio.run(story())
