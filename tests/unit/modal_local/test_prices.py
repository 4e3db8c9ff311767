"""Prices and the costs of lives, without any server."""

import itertools
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modal_local.prices import PriceTable, Shape, UnknownGpuError, cost_usd, region_factor
from modal_local.services.billing import Lifetime, costs_by_interval, costs_within
from modal_local.settings import GPU_TYPES

HOUR = 3600
DAY = 86_400
PRICES = PriceTable()


def life(start: float, end: float | None, *, app: str = "ap-1", **shape: object) -> Lifetime:
    return Lifetime("ta-1", app, "main", start, end, Shape(**shape))  # type: ignore[arg-type]  # fields of Shape


def test_an_hour_of_each_thing_costs_what_the_table_says() -> None:
    # given a container that asks for whole units
    costs = PRICES.usd_micros_per_hour(Shape(gpu_type="H100", gpu_count=2, cpu_cores=4, memory_mib=8192))
    # then each costs its price
    assert costs == {"H100": 7_900_000, "CPU": 189_200, "Memory": 64_000}


# modal.com/pricing, dollars per second, as published
@pytest.mark.parametrize(
    ("name", "usd_per_s"),
    [
        ("T4", "0.000164"), ("L4", "0.000222"), ("A10", "0.000306"), ("L40S", "0.000542"), ("A100-40GB", "0.000583"),
        ("A100-80GB", "0.000694"), ("RTX-PRO-6000", "0.000842"), ("H100", "0.001097"), ("H200", "0.001261"),
        ("B200", "0.001736"), ("B300", "0.001972"),
    ],
)  # fmt: skip
def test_prices_per_hour_are_the_published_ones_per_second(name: str, usd_per_s: str) -> None:
    assert (Decimal(PRICES.gpu(name)) / 10**6 / HOUR).quantize(Decimal("0.000001")) == Decimal(usd_per_s)


@pytest.mark.parametrize(
    ("alias", "name"), [("A100", "A100-40GB"), ("h100!", "H100"), ("A10G", "A10"), ("B200+", "B200")]
)
def test_other_names_of_the_same_price(alias: str, name: str) -> None:
    assert PRICES.gpu(alias) == PRICES.gpu(name)


def test_every_gpu_that_can_be_asked_for_has_a_price() -> None:
    assert all(PRICES.gpu(name) > 0 for name in GPU_TYPES)


def test_a_gpu_without_a_price_is_an_error_that_names_it() -> None:
    with pytest.raises(UnknownGpuError, match="V100"):
        PRICES.usd_micros_per_hour(Shape(gpu_type="V100", gpu_count=1))


def test_minimum_region_and_nonpreemptible() -> None:
    least = PRICES.usd_micros_per_hour(Shape(cpu_cores=0.01, memory_mib=1))
    assert least == {"CPU": Decimal("5912.5"), "Memory": 1000}
    assert [region_factor(one) for one in ("", "us", "us-west")] == [1, Decimal("1.5"), Decimal("1.75")]
    dear = PRICES.usd_micros_per_hour(
        Shape(gpu_type="T4", gpu_count=1, cpu_cores=1, memory_mib=1024, region="us", nonpreemptible=True)
    )
    assert dear == {"T4": 885_000, "CPU": Decimal(47_300) * 3 * 3 / 2, "Memory": 36_000}


def test_rates_have_modals_keys() -> None:
    rates = PRICES.rates()
    assert (rates["cpu_hour_cost"], rates["mem_gib_hour_cost"]) == (Decimal("0.0473"), Decimal("0.008"))
    assert (rates["gpu_hour_cost_h100"], rates["gpu_hour_cost_a100_80gb"]) == (Decimal("3.95"), Decimal("2.5"))
    assert {"gpu_hour_cost_a10g", "gpu_hour_cost_rtx6000"} <= set(rates)


def test_a_life_over_two_hours_is_split_where_the_hour_ends() -> None:
    # given a container that lives for the last quarter of one hour and the first of the next
    table = costs_by_interval(
        [life(HOUR * 0.75, HOUR * 1.25, gpu_type="H100", gpu_count=1)], PRICES, 0, 3 * HOUR, HOUR, now_s=9 * HOUR
    )
    # then each hour has a quarter of an hour's price
    assert {key: costs["H100"] for key, costs in table.items()} == {
        (0, "ap-1"): Decimal("0.9875"),
        (HOUR, "ap-1"): Decimal("0.9875"),
    }


def test_start_is_rounded_down_and_a_partial_end_left_out() -> None:
    lives = [life(0, 3 * HOUR)]
    table = costs_by_interval(lives, PRICES, HOUR + 1, 3 * HOUR - 1, HOUR, now_s=9 * HOUR)
    assert list(table) == [(HOUR, "ap-1")]


def test_what_still_lives_costs_up_to_now() -> None:
    table = costs_by_interval([life(0, None)], PRICES, 0, 9 * HOUR, HOUR, now_s=1.5 * HOUR)
    assert [begin for begin, _ in table] == [0, HOUR]
    assert table[(HOUR, "ap-1")]["CPU"] * 2 == table[(0, "ap-1")]["CPU"]


@given(
    starts=st.lists(st.floats(0, 2 * DAY), min_size=1, max_size=5),
    lengths=st.lists(st.floats(0.001, 2 * DAY), min_size=5, max_size=5),
    cuts=st.lists(st.floats(0, 4 * DAY), max_size=6),
)
def test_however_it_is_cut_the_bill_adds_up(starts: list[float], lengths: list[float], cuts: list[float]) -> None:
    lives = [life(s, s + n, gpu_type="L4", gpu_count=3) for s, n in zip(starts, lengths, strict=False)]
    whole = costs_within(lives, PRICES, 0, 4 * DAY, now_s=9 * DAY)
    # by arbitrary cuts
    edges = [0, *sorted(cuts), 4 * DAY]
    parts = [costs_within(lives, PRICES, a, b, now_s=9 * DAY) for a, b in itertools.pairwise(edges)]
    assert {name: sum(part.get(name, Decimal(0)) for part in parts) for name in whole} == whole
    # by hours, and by days
    for step in (HOUR, DAY):
        table = costs_by_interval(lives, PRICES, 0, 4 * DAY, step, now_s=9 * DAY)
        assert sum(sum(row.values()) for row in table.values()) == sum(whole.values())


@given(price=st.integers(1, 10**7), age=st.floats(0, 10**6))
def test_a_cost_is_never_off_by_more_than_half_of_the_last_place(price: int, age: float) -> None:
    exact = Decimal(price) * Decimal(age) / HOUR / 10**6
    rounding_of_time = Decimal(price) * Decimal("0.0000005") / HOUR / 10**6
    assert abs(cost_usd(Decimal(price), 0, age, born_s=0) - exact) <= Decimal("0.000000005") + rounding_of_time
