"""A call that outlasts its reservation gets more in time, or is stopped when what it has is used up."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from ledger.models import Kind
from ledger.outcomes import DueCall, Refused, ToppedUp
from tests.support.settings import settings_of
from workers.overflow.reservations import Coverage, Terms, TopUps, covered_s, wanted_usd_micros

# A dollar at a milli-dollar a second: 1,000 s, of which 100 are for the tail and the stop
CALL = DueCall(
    "video_1", 1, Kind.RENDER, "H100", "fc", now_ms=0, spawned_ms=0, call_deadline_ms=10**7,
    reserved_usd_micros=1_000_000, usd_nanos_per_s=1_000_000,
)  # fmt: skip
TERMS = Terms(after_s=100, step_s=60)


def _aged(age_s: float, **fields: object) -> DueCall:
    return replace(CALL, now_ms=round(age_s * 1000), **fields)  # type: ignore[arg-type]  # of the dataclass


def test_nothing_is_asked_while_the_reservation_covers_it() -> None:
    assert covered_s(CALL, TERMS) == 900
    assert wanted_usd_micros(_aged(869), TERMS) is None


def test_more_is_asked_before_it_is_used_up() -> None:
    # So that at the age of 870 s another 60 s, the tail and the stop are covered
    assert wanted_usd_micros(_aged(870), TERMS) == 1_030_000


def test_a_call_whose_price_is_not_known_is_left_alone() -> None:
    assert wanted_usd_micros(_aged(10**6, usd_nanos_per_s=0), TERMS) is None


class _Ledger:
    def __init__(self, answer: object) -> None:
        self.modal_calls = self
        self.answer = answer
        self.asked: list[int] = []

    def top_up(self, *_: Any, reserve_usd_micros: int, **__: Any) -> object:
        self.asked.append(reserve_usd_micros)
        return self.answer


@pytest.mark.parametrize(
    ("at_end", "age_s", "answer", "verdict"),
    [
        ("cancel", 880, ToppedUp(1_040_000), Coverage.COVERED),
        ("cancel", 880, Refused("month"), Coverage.COVERED),
        ("cancel", 901, Refused("month"), Coverage.USED_UP),
        ("run_on", 901, Refused("month"), Coverage.COVERED),
    ],
)
def test_a_refusal_stops_it_when_its_reservation_is_used_up_and_not_before(
    at_end: str, age_s: float, answer: object, verdict: Coverage
) -> None:
    settings = settings_of(
        {"at_reservation_end": at_end, "modal_scaledown_window_s": 60, "stop_margin_s": 40, "top_up_step_s": 60}
    )
    top_ups = TopUps(_Ledger(answer), settings)  # type: ignore[arg-type]  # its one verb is used
    assert asyncio.run(top_ups.keep_covered(_aged(age_s))) is verdict
