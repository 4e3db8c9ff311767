"""The follower can be begun again in another event loop, as a service that stumbled is."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from infra.settings import Settings
from ledger.models import Kind
from ledger.outcomes import DueCall, DueCalls
from ledger.polling import Release, Shares, StoredBreaker
from modal_apps.announce import Announcement
from modal_apps.hints import CallHint
from workers.overflow import follower, poller
from workers.overflow.breaker import BreakerRules, Gate
from workers.overflow.follower import Follower
from workers.overflow.modal_sdk.port import PollResult, StillRunning
from workers.resources import Resources

CALLS = [
    DueCall(
        job_id=f"video_{number}", attempt=1, kind=Kind.RENDER, gpu="H100", call_id=f"fc-{number}", now_ms=1000,
        spawned_ms=0, call_deadline_ms=10**9,
    )
    for number in range(6)
]  # fmt: skip


class _Ledger:
    """Hands the calls out once a run, and tells when all were given back."""

    def __init__(self) -> None:
        self.modal_calls = self.maintenance = self.modal_calls = self
        self.due = list(CALLS)
        self.released: set[str] = set()
        self.all_back = threading.Event()
        self.claim_raises = self.release_raises = 0
        self.wanted = len(CALLS)

    def claim_due(self, **_: Any) -> DueCalls:
        if self.claim_raises:
            self.claim_raises -= 1
            raise ValueError("a row that cannot be read")
        due, self.due = self.due, []
        return DueCalls(due, len(CALLS), None)

    def claim_cancels(self, **_: Any) -> list[Any]:
        return []

    def lead(self, *_: Any, **__: Any) -> bool:
        return False

    def breaker(self) -> StoredBreaker:
        return StoredBreaker("closed", "", None, 0, 0)

    def share_partitions(self, **_: Any) -> Shares:
        return Shares([0], 1)

    def release_claims(self, releases: Sequence[Release]) -> list[str]:
        if self.release_raises and any(one.job_id == "video_3" for one in releases):
            raise ValueError("a release that cannot be written")
        self.released |= {one.job_id for one in releases}
        if len(self.released) >= self.wanted:
            self.all_back.set()
        return []


class _Modal:
    """Each poll gives way once, so that polls wait for one another."""

    async def poll(self, call_id: str) -> PollResult:
        await asyncio.sleep(0)
        return StillRunning()

    async def probe(self) -> None:
        """All is well."""

    async def hints(self, partition: int, *, limit: int, wait_s: float) -> Sequence[CallHint]:
        await asyncio.sleep(wait_s)
        return []

    async def announced(self, *, page: int) -> AsyncIterator[Sequence[Announcement]]:
        for nothing in ():
            yield nothing


def _run(ledger: _Ledger) -> _Ledger:
    """Follow until all that can be were given back."""
    gate = Gate(ledger, BreakerRules())  # type: ignore[arg-type]  # only the ledger's verbs are used
    followed = Follower(Resources(Settings(), ledger, None, None), _Modal(), gate)  # type: ignore[arg-type]  # the same

    async def run() -> None:
        running = asyncio.create_task(followed.run())
        assert await asyncio.to_thread(ledger.all_back.wait, 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())
    return ledger


def test_it_polls_everything_again_in_a_second_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a follower that may ask Modal one thing at a time, so that looks queue up
    ledger = _Ledger()
    monkeypatch.setattr(poller, "CONCURRENCY", 1)
    resources = Resources(Settings(), ledger, None, None)  # type: ignore[arg-type]  # only the ledger's verbs are used
    gate = Gate(ledger, BreakerRules())  # type: ignore[arg-type]  # the same
    followed = Follower(resources, _Modal(), gate)  # type: ignore[arg-type]  # only polls are made

    async def one_run() -> None:
        running = asyncio.create_task(followed.run())
        assert await asyncio.to_thread(ledger.all_back.wait, 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    # When it runs in one event loop, and then in another
    for _ in range(2):
        ledger.due, ledger.released = list(CALLS), set()
        ledger.all_back.clear()
        asyncio.run(one_run())
        # Then every call was polled and given back, each time
        assert ledger.released == {call.job_id for call in CALLS}


def test_it_follows_on_after_a_claim_that_could_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a ledger whose first answer cannot be read
    monkeypatch.setattr(follower, "AWAY_S", 0.01)
    ledger = _Ledger()
    ledger.claim_raises = 1
    # When a follower runs / then every call was polled and given back
    assert _run(ledger).released == {call.job_id for call in CALLS}


def test_one_call_that_cannot_be_given_back_keeps_no_other() -> None:
    # Given one call that the ledger cannot take back
    ledger = _Ledger()
    ledger.release_raises, ledger.wanted = 1, len(CALLS) - 1
    # When a follower runs / then all others were given back
    assert _run(ledger).released == {call.job_id for call in CALLS} - {"video_3"}
