"""The follower can be begun again in another event loop, as a service that stumbled is."""

import asyncio
import threading
from typing import Any

from ledger.models import BurstMode, JobRecord, Kind
from ledger.outcomes import DueCall
from ledger.states import State
from workers.overflow.calls import Look, StillRunning
from workers.overflow.follower import Follower
from workers.resources import Resources
from workers.settings import Settings

CALLS = [
    DueCall(
        JobRecord(
            id=f"video_{number}", kind=Kind.RENDER, tenant="t", state=State.RUNNING, priority=5, burst=BurstMode.AUTO,
            created_ms=0, changed_ms=0, call_id=f"fc-{number}",
        ),
        now_ms=1000, spawned_ms=0, call_deadline_ms=10**9,
    )
    for number in range(6)
]  # fmt: skip


class _Ledger:
    """Hands the calls out once a run, and tells when all were given back."""

    def __init__(self) -> None:
        self.calls = self
        self.sweeps = self
        self.due = list(CALLS)
        self.released: set[str] = set()
        self.all_back = threading.Event()

    def claim_due(self, **_: Any) -> list[DueCall]:
        due, self.due = self.due, []
        return due

    def claim_cancels(self, **_: Any) -> list[Any]:
        return []

    def lead(self, *_: Any, **__: Any) -> bool:
        return False

    def release(self, job_id: str, *_: Any, **__: Any) -> None:
        self.released.add(job_id)
        if len(self.released) == len(CALLS):
            self.all_back.set()


class _Modal:
    """Each look gives way once, so that looks wait for one another."""

    async def look(self, call_id: str) -> Look:
        await asyncio.sleep(0)
        return StillRunning()


def test_it_looks_at_everything_again_in_a_second_loop() -> None:
    # Given a follower that may ask Modal one thing at a time, so that looks queue up
    ledger = _Ledger()
    values = Settings.model_validate({"follow_concurrency": 1})
    open_ends = Resources(values, ledger, None, None)  # type: ignore[arg-type]  # only the ledger's verbs are used
    follower = Follower(open_ends, _Modal())  # type: ignore[arg-type]  # only looks are made

    async def one_run() -> None:
        running = asyncio.create_task(follower.run())
        assert await asyncio.to_thread(ledger.all_back.wait, 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    # When it runs in one event loop, and then in another
    for _ in range(2):
        ledger.due, ledger.released = list(CALLS), set()
        ledger.all_back.clear()
        asyncio.run(one_run())
        # Then every call was looked at and given back, each time
        assert ledger.released == {call.record.id for call in CALLS}
