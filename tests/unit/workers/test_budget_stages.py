"""What the stages of a budget mean, what a refusal leads to, and what classes cost."""

import json

import pytest
from pydantic import ValidationError

from infra.limits import given_limits
from infra.settings import Settings
from ledger.decisions import Hold, Shed
from ledger.models import Kind
from ledger.outcomes import LiveCall
from ledger.stages import Stage
from ledger.view import MoneyView
from modal_apps.gpus import UnknownGpuClass, parse
from modal_apps.prices import NoPrice, PriceList
from tests.support.settings import settings_of
from workers.placement.holding import instead_of_modal
from workers.placement.stages import may_spill, to_cancel


def test_while_it_drains_only_priority_jobs_spill() -> None:
    assert may_spill(MoneyView(stage=Stage.WARN_80, drain_priority=7), 0)
    for stage in (Stage.DRAIN, Stage.STOP):
        money = MoneyView(stage=stage, drain_priority=7)
        assert (may_spill(money, 6), may_spill(money, 7)) == (False, True)


def _live(name: str, placed_ms: int, priority: int = 3, reserved: int = 100) -> LiveCall:
    return LiveCall(name, 1, Kind.RENDER, "acme", priority, placed_ms, reserved)


def test_the_newest_calls_of_low_priority_go_until_enough_comes_back() -> None:
    calls = [_live("old", 1), _live("new", 3), _live("middle", 2), _live("precious", 4, priority=7)]
    chosen = to_cancel(calls, below_priority=7, over_usd_micros=150)
    assert [call.job_id for call in chosen] == ["new", "middle"]
    assert to_cancel(calls, below_priority=7, over_usd_micros=0) == []
    assert len(to_cancel(calls, below_priority=7, over_usd_micros=10**9)) == 3


def test_a_refusal_holds_for_a_while_or_sheds_at_once() -> None:
    assert instead_of_modal("gpus_at_cap", timeout_s=9, again_in_s=2) == Hold("gpus_at_cap", 2, 9)
    shed = instead_of_modal("tenant_budget", timeout_s=0, again_in_s=2)
    assert isinstance(shed, Shed)
    assert (shed.code, "tenant_budget" in shed.message) == ("budget_exhausted", True)


def test_how_long_a_job_is_held_is_its_tenants_then_its_kinds_word() -> None:
    settings = settings_of(
        hold_timeout_s=10, hold_timeout_s_by_kind={Kind.TRAIN: 60}, hold_timeout_s_by_tenant={"acme": 0}
    )
    assert settings.placement.hold_timeout_of(Kind.RENDER, "beta") == 10
    assert settings.placement.hold_timeout_of(Kind.TRAIN, "beta") == 60
    assert settings.placement.hold_timeout_of(Kind.TRAIN, "acme") == 0


# --- prices


def test_own_prices_and_the_regions_factor() -> None:
    h100, four = parse("H100"), parse("A100-80GB:4")
    assert PriceList().usd_nanos_per_s(h100) == h100.price_usd_nanos_per_s()
    own = PriceList({"H100": 3.6, "A100-80GB:4": 14.4})
    beside = h100.price_usd_nanos_per_s() - h100.usd_nanos_per_s
    assert own.usd_nanos_per_s("H100") == 1_000_000 + beside
    assert own.usd_nanos_per_s(four) == 4_000_000 + beside
    assert own.usd_nanos_per_s("A100-80GB") == parse("A100-80GB").price_usd_nanos_per_s()
    assert PriceList({}, region_factor=1.5).usd_nanos_per_s(h100) == round(h100.price_usd_nanos_per_s() * 1.5)
    assert own.cost_usd_micros(h100, 0.0005) == 1


@pytest.mark.parametrize("price", [0, -1, float("nan"), float("inf")])
def test_a_free_class_is_refused(price: float) -> None:
    with pytest.raises(NoPrice, match="GPU class H100"):
        PriceList({"H100": price}).check([])
    with pytest.raises(UnknownGpuClass):
        PriceList({"H999": 1}).check([])


@pytest.mark.parametrize("prices", ['{"H100": 0}', '{"H999": 3}', '{"H100": "much"}', "[1]"])
def test_settings_with_a_class_that_costs_nothing_do_not_start(monkeypatch: pytest.MonkeyPatch, prices: str) -> None:
    monkeypatch.setenv("OVERSPILL_MODAL_PRICES_USD_PER_HOUR", prices)
    with pytest.raises(ValidationError):
        Settings()


def test_the_caps_are_read_in_dollars(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DAY_CAP_USD": "12.5",
        "HOUR_RATE_CAP_USD": "40",
        "TENANT_MONTH_CAP_USD": "7",
        "TENANT_MONTH_CAPS_USD": json.dumps({"acme": 500}),
        "KIND_MONTH_CAPS_USD": json.dumps({"train": 20}),
        "MAX_MODAL_GPUS": "8",
        "MAX_MODAL_CONTAINERS": "9",
    }.items():
        monkeypatch.setenv(f"OVERSPILL_{name}", value)
    # (What is left at its default is not said by the environment, and fills nothing.)
    assert given_limits(Settings()) == {
        "day": 12_500_000,
        "hour_rate": 40_000_000,
        "tenant": 7_000_000,
        "tenant:acme": 500_000_000,
        "kind:train": 20_000_000,
        "gpus": 8,
        "containers": 9,
    }
