"""What the warm keeper tells Modal, counts and pays, on a real ledger; the port to Modal only notes what it is told.

(test_overflow_plane.py has it tell a Modal, through the real SDK.)
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.settings import Settings
from ledger import Kind, Ledger
from tests.integration.workers.conftest import settings_for
from tests.support.ledgers import limited_by, move_clock, observed, submit
from workers.dispatch import render_need
from workers.overflow.breaker import BreakerRules, FailureReason, Gate
from workers.overflow.containers import WarmKeeper, hour_of_week

ROUND_S = 30.0


@dataclass
class ToldModal:
    """What Modal was told last of each class: containers, buffer, idle window; and whether it can be reached."""

    is_away: bool = False
    told: dict[str, tuple[int, int, int | None]] = field(default_factory=dict)

    async def keep_warm(
        self, gpu: str, *, min_containers: int, buffer_containers: int, scaledown_window_s: int | None
    ) -> None:
        if self.is_away:
            raise ConnectionError("Modal is away")
        self.told[gpu] = (min_containers, buffer_containers, scaledown_window_s)


@dataclass
class Keeping:
    """A keeper with its ledger and its Modal."""

    ledger: Ledger
    modal: ToldModal
    keeper: WarmKeeper

    @classmethod
    def on(cls, ledger: Ledger, modal: ToldModal | None = None, **fields: Any) -> "Keeping":
        """A keeper whose settings are `fields`."""
        settings, told = settings_for(ledger, **fields), modal or ToldModal()
        limited_by(ledger, settings)
        resources: Any = type("Open", (), {"ledger": ledger, "settings": settings})
        port: Any = told
        return cls(ledger, told, WarmKeeper(resources, port, render_need(settings), every_s=ROUND_S))

    def round(self) -> None:
        """One round."""
        asyncio.run(self.keeper.keep())

    def wish(self, number: int, gpu: str = "H200") -> None:
        """An operator's."""
        self.ledger.money.set_prewarm(number, gpu=gpu, for_s=3600, who="op", why="a launch")

    @property
    def alive(self) -> tuple[int, int]:
        """Containers and GPUs that count."""
        view = self.ledger.money.view()
        return view.containers.used, view.gpus.used

    @property
    def spent(self) -> int:
        """Micro-dollars of this month."""
        return self.ledger.placement.view().money.spent_usd_micros


def _round_usd_micros(gpu: str, number: int) -> int:
    return round(number * ROUND_S * Settings().modal.prices.usd_nanos_per_s(gpu) / 1000)


def _busy_weeks(ledger: Ledger) -> None:
    """Weeks in which every hour brought 600 jobs of a minute each: ten GPUs' work."""
    ledger.money.arrivals(Kind.RENDER, keep_ratio=0.6)
    ledger.client.hset(f"{ledger.prefix}:arrivals:render", mapping={str(hour): "600" for hour in range(168)})
    observed(ledger, "job_run_seconds", "kind=render|pool=modal", 60)


def test_a_wish_is_kept_as_far_as_the_caps_on_what_is_alive_have_room(ledger: Ledger) -> None:
    # Given room for eight GPUs, and a wish for fifty containers
    keeping = Keeping.on(ledger, max_modal_gpus=8, warm_buffer=2)
    keeping.wish(50)
    # When the keeper goes round / then eight are kept, counted and paid, and no idle one beside
    keeping.round()
    assert keeping.modal.told == {"H200": (8, 0, None)}
    assert keeping.alive == (8, 8)
    assert keeping.spent == pytest.approx(_round_usd_micros("H200", 8), abs=2)
    # When three are wished for, then the buffer is paid for with them
    keeping.wish(3)
    keeping.round()
    assert keeping.modal.told == {"H200": (3, 2, None)}
    assert keeping.alive == (5, 5)
    assert keeping.spent == pytest.approx(_round_usd_micros("H200", 8 + 5), abs=2)
    # And when the wish is over, nothing is left of them
    keeping.wish(0)
    keeping.round()
    assert (keeping.modal.told, keeping.alive) == ({"H200": (0, 0, None)}, (0, 0))


def test_what_modal_did_not_take_is_neither_counted_nor_paid(ledger: Ledger) -> None:
    # Given a Modal that is away, and a wish
    keeping = Keeping.on(ledger, ToldModal(is_away=True))
    keeping.wish(3)
    # When the keeper goes round and round
    for _ in range(3):
        keeping.round()
    # Then nothing counts and nothing is paid
    assert (keeping.alive, keeping.spent) == ((0, 0), 0)
    # When it is back, they are; and when it does not take the end of the wish, they go on to count and to cost
    keeping.modal.is_away = False
    keeping.round()
    keeping.modal.is_away = True
    keeping.wish(0)
    keeping.round()
    assert (keeping.alive, keeping.modal.told) == ((3, 3), {"H200": (3, 0, None)})
    assert keeping.spent == pytest.approx(_round_usd_micros("H200", 3 + 3), abs=2)


def test_a_forecast_peak_is_warmed_for_within_its_ceiling(ledger: Ledger) -> None:
    # Given a peak, and a ceiling that pays for one round and a half
    one_round = _round_usd_micros("H100", 5)
    keeping = Keeping.on(ledger, warm_usd_per_day=1.5 * one_round / 1e6)
    _busy_weeks(ledger)
    # When the keeper goes round twice
    keeping.round()
    assert ledger.money.kept_warm() == {(Kind.RENDER, "H100"): 5}
    keeping.round()
    # Then half of the ten GPUs that the peak needs were warm, until the day's ceiling was reached
    assert (ledger.money.kept_warm(), keeping.alive) == ({}, (0, 0))
    assert keeping.spent == pytest.approx(one_round, abs=2)


@pytest.mark.parametrize("stopped_by", ["operator", "breaker"])
def test_while_nothing_may_spill_no_forecast_is_warmed_for(ledger: Ledger, stopped_by: str) -> None:
    keeping = Keeping.on(ledger, warm_usd_per_day=100)
    _busy_weeks(ledger)
    keeping.round()
    assert keeping.modal.told["H100"][0] == 5
    # When spilling is turned off, or the breaker opens
    if stopped_by == "operator":
        ledger.money.set_override("off", who="op", why="test")
    else:
        Gate(ledger, BreakerRules()).failed(FailureReason.TOKEN_REFUSED)
    keeping.round()
    # Then they are let go
    assert (keeping.modal.told["H100"][0], keeping.alive) == (0, (0, 0))


def test_each_render_class_gets_the_window_of_its_own_cold_starts(ledger: Ledger) -> None:
    # Given cold starts of two of three classes, and nothing that is kept warm
    keeping = Keeping.on(
        ledger, modal_window="measured", modal_render_classes=("H100", "H200"), modal_render_fallbacks=("B200",)
    )
    for gpu, seconds in (("H100", 20), ("H100", 30), ("B200", 500), ("L4", 17)):
        observed(ledger, "cold_start_seconds", f"gpu={gpu}|kind=render", seconds)
    # When the keeper goes round / then each has its own, within what the budget reckons with
    keeping.round()
    assert keeping.modal.told == {"B200": (0, 0, 60), "H100": (0, 0, 25)}
    assert (keeping.alive, keeping.spent) == ((0, 0), 0)


def test_the_arrivals_of_a_week_are_folded_hour_by_hour(ledger: Ledger) -> None:
    # Given three jobs in this hour
    for _ in range(3):
        submit(ledger)
    assert sum(ledger.money.arrivals(Kind.RENDER, keep_ratio=0.5).by_hour.values()) == 0
    # When the hour is over
    move_clock(ledger, 3600)
    now = ledger.money.arrivals(Kind.RENDER, keep_ratio=0.5)
    hour = (hour_of_week(now.now_ms) - 1) % 168
    assert now.by_hour[hour] == 3 * 0.5 or now.by_hour[hour] == 3
    # And a quiet week later it counts half
    was = now.by_hour[hour]
    move_clock(ledger, 7 * 86_400)
    assert ledger.money.arrivals(Kind.RENDER, keep_ratio=0.5).by_hour[hour] == was / 2


def test_an_error_about_one_class_keeps_no_other_cold(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given wishes for two classes, and an error of ours about the first
    keeping = Keeping.on(ledger)
    keeping.wish(1, "H100")
    keeping.wish(2, "H200")
    hold = ledger.money.hold_warm

    def odd(pool: Any, terms: Any) -> Any:
        if pool.gpu == "H100":
            raise ValueError("odd")
        return hold(pool, terms)

    monkeypatch.setattr(ledger.money, "hold_warm", odd)
    # When a round is made / then the other class is warm
    keeping.round()
    assert keeping.modal.told["H200"][0] == 2
