"""Hints that a follower has drained are in no queue any more: it notes them even when it is told to stop."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ledger.errors import UnknownOutcome
from ledger.polling import Hint, Shares
from modal_apps.hints import CallHint
from workers.overflow import hints
from workers.overflow.hints import HintDrain
from workers.overflow.schedule import Pace, Schedule

SAID = CallHint("video_1", 1, "fc-1", "done", 100)


class _Ledger:
    """One partition for everybody; notes what it is told."""

    def __init__(self) -> None:
        self.modal_calls = self
        self.noted: list[tuple[str, str]] = []

    def share_partitions(self, **_: Any) -> Shares:
        return Shares([0], 1)

    def note_hints(self, said: Sequence[Hint]) -> list[Any]:
        self.noted += [(hint.job_id, hint.what) for hint in said]
        return []


class _Queue:
    """One hint, and then nothing for ever."""

    def __init__(self) -> None:
        self.drained = asyncio.Event()

    async def hints(self, *_: Any, **__: Any) -> Sequence[CallHint]:
        if self.drained.is_set():
            await asyncio.Event().wait()
        self.drained.set()
        return [SAID]


def test_what_was_drained_is_noted_before_a_follower_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a follower that gathers hints for a minute before it notes them, and has drained one
    monkeypatch.setattr(hints, "NOTE_EVERY_S", 60.0)
    ledger: Any = _Ledger()
    ends: list[str] = []

    async def drain_and_stop() -> None:
        queue: Any = _Queue()
        drain = HintDrain(
            ledger, queue, Schedule(ledger, Pace(0.5, 5, 30, 100)), owner="f",
            on_ends=lambda: ends.append("told"), on_unrecorded=lambda _: None,
        )  # fmt: skip
        running = asyncio.create_task(drain.run())
        await queue.drained.wait()
        await asyncio.sleep(0)
        assert ledger.noted == []
        # When it is stopped
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(drain_and_stop())
    # Then the ledger knows
    assert (ledger.noted, ends) == ([("video_1", "done")], ["told"])


def test_a_hint_that_cannot_be_read_is_dropped_and_the_others_are_noted() -> None:
    # Given a batch with a result of impossible size
    ledger: Any = _Ledger()
    queue: Any = _Queue()
    drain = HintDrain(
        ledger, queue, Schedule(ledger, Pace(0.5, 5, 30, 100)), owner="f",
        on_ends=lambda: None, on_unrecorded=lambda _: None,
    )  # fmt: skip
    # When it is noted
    asyncio.run(drain._note([replace(SAID, job_id="video_0", result_bytes=10**400), SAID]))
    # Then the ledger knows the other one
    assert ledger.noted == [("video_1", "done")]


def test_a_hint_that_the_ledger_cannot_take_is_dropped_and_the_others_are_noted() -> None:
    # Given a ledger that refuses a whole batch for one hint
    class _Picky(_Ledger):
        def note_hints(self, said: Sequence[Hint]) -> list[Any]:
            if any(hint.job_id == "video_0" for hint in said):
                raise UnknownOutcome("note_hints", "odd")
            return super().note_hints(said)

    ledger: Any = _Picky()
    queue: Any = _Queue()
    drain = HintDrain(
        ledger, queue, Schedule(ledger, Pace(0.5, 5, 30, 100)), owner="f",
        on_ends=lambda: None, on_unrecorded=lambda _: None,
    )  # fmt: skip
    # When a batch with it is noted
    asyncio.run(drain._note([SAID, replace(SAID, job_id="video_0"), replace(SAID, job_id="video_2")]))
    # Then the ledger knows the others
    assert ledger.noted == [("video_1", "done"), ("video_2", "done")]


def test_noting_goes_on_after_it_has_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a follower whose ears for ends raise once
    monkeypatch.setattr(hints, "AGAIN_S", 0.0)
    monkeypatch.setattr(hints, "NOTE_EVERY_S", 0.0)
    ledger: Any = _Ledger()
    told: list[str] = []

    async def two_batches() -> None:
        first, second = asyncio.Event(), asyncio.Event()

        def on_ends() -> None:
            told.append("told")
            first.set()
            if len(told) == 1:
                raise RuntimeError("once")
            second.set()

        queue: Any = _Queue()
        drain = HintDrain(
            ledger, queue, Schedule(ledger, Pace(0.5, 5, 30, 100)), owner="f",
            on_ends=on_ends, on_unrecorded=lambda _: None,
        )  # fmt: skip
        running = asyncio.create_task(drain.run())
        await first.wait()
        # When another hint comes
        drain._taken.append(SAID)
        drain._has_taken.set()
        # Then it is noted, too
        async with asyncio.timeout(3):
            await second.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(two_batches())
    assert len(ledger.noted) == 2
