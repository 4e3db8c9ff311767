"""When Modal is asked about a call that fell due, and when what the call says of itself is enough."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from ledger.models import Kind
from ledger.outcomes import DueCall, Refused, ToppedUp
from workers.overflow.calls import Look, StillRunning
from workers.overflow.claims import Claims
from workers.overflow.conclusions import Conclusions
from workers.overflow.looks import Looks
from workers.overflow.pacing import Pace
from workers.overflow.topups import TopUps
from workers.resources import Resources
from workers.settings import Settings

#: Half done after 40 s of work, and said so a second ago; its reservation covers an hour.
HALF_DONE = DueCall(
    job_id="video_1", attempt=1, kind=Kind.RENDER, gpu="H100", call_id="fc-1", now_ms=50_000, spawned_ms=0,
    call_deadline_ms=10**9, begun_ms=9_000, hinted_ms=49_000, progress=50, reserved_usd_micros=3_600_000,
    usd_nanos_per_s=1_000_000,
)  # fmt: skip
#: What it has is used up.
USED_UP = replace(HALF_DONE, reserved_usd_micros=60_000)


class _Ledger:
    """Answers for the budget, and notes how attempts failed."""

    def __init__(self, answer: ToppedUp | Refused) -> None:
        self.calls = self.attempts = self
        self.answer = answer
        self.asked: list[int] = []
        self.failed: list[str] = []

    def top_up(self, *_: object, reserve_usd_micros: int, **__: object) -> ToppedUp | Refused:
        self.asked.append(reserve_usd_micros)
        return self.answer

    def fail(self, *_: object, cause: object, **__: object) -> object:
        self.failed.append(str(cause))
        return None


class _Modal:
    """Every call runs."""

    def __init__(self) -> None:
        self.looked_at: list[str] = []

    async def look(self, call_id: str) -> Look:
        self.looked_at.append(call_id)
        return StillRunning()


def _looked_at(call: DueCall, answer: ToppedUp | Refused) -> tuple[_Ledger, _Modal, Any]:
    """Let one call fall due. What the ledger and Modal were asked, and what is given back."""
    settings = Settings()
    ledger, modal = _Ledger(answer), _Modal()
    claims: Any = Claims(ledger, Pace(0.5, 5, 30, 100))  # type: ignore[arg-type]  # nothing is claimed
    open_ends = Resources(settings, ledger, None, None)  # type: ignore[arg-type]  # only the ledger's verbs are used

    async def look() -> None:
        with ThreadPoolExecutor(1) as threads:
            top_ups = TopUps(ledger, settings)  # type: ignore[arg-type]  # the same
            gate: Any = None  # Modal is never away here
            port: Any = modal
            looks = Looks(port, claims, Conclusions(open_ends), gate, top_ups, settings, threads)
            await looks.look(call)

    asyncio.run(look())
    return ledger, modal, claims._to_give_back


def test_a_call_whose_hints_come_is_given_back_without_asking_modal() -> None:
    # When a call falls due that has just said that it is half done
    ledger, modal, given_back = _looked_at(HALF_DONE, ToppedUp(0))
    # Then Modal is not asked, nor the budget, and it falls due again after its predicted end
    assert (modal.looked_at, ledger.asked) == ([], [])
    assert [release.again_in_s > 39 for _, release in given_back] == [True]


@pytest.mark.parametrize("silent", [replace(HALF_DONE, now_ms=79_001), replace(HALF_DONE, progress=0)])
def test_a_call_that_fell_silent_or_does_not_say_how_far_it_is_is_looked_at(silent: DueCall) -> None:
    _, modal, given_back = _looked_at(silent, ToppedUp(0))
    assert (modal.looked_at, len(given_back)) == (["fc-1"], 1)


def test_its_reservation_is_topped_up_without_asking_modal() -> None:
    ledger, modal, given_back = _looked_at(USED_UP, ToppedUp(120_000))
    assert (modal.looked_at, len(ledger.asked), len(given_back)) == ([], 1, 1)


def test_before_a_call_is_stopped_for_its_money_modal_is_asked_whether_it_has_ended() -> None:
    ledger, modal, given_back = _looked_at(USED_UP, Refused("month_cap"))
    assert (modal.looked_at, ledger.failed, len(given_back)) == (["fc-1"], ["budget"], 0)
