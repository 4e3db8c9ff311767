"""The catalogue: what fits, what it costs, what is not a class."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modal_apps.gpus import CATALOGUE, UnknownGpuClass, cheapest, parse


@pytest.mark.parametrize("name", ["H100", "A100-80GB:4", "T4:8", "A10:4"])
def test_a_name_is_parsed_and_spelt_back(name: str) -> None:
    assert parse(name).name == name


@pytest.mark.parametrize("name", ["", "H1000", "h100", "H100:0", "H100:9", "A10:5", "H100:x", "H100:-1", "H100:²"])
def test_what_modal_does_not_offer_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnknownGpuClass) as caught:
        parse(name)
    assert repr(name) in str(caught.value)


def test_fp8_excludes_ampere_and_headroom_excludes_the_marginal_card() -> None:
    every = [gpu.type for gpu in CATALOGUE]

    def pick(headroom_ratio: float, *, needs_fp8: bool) -> str:
        chosen = cheapest(every, vram_gib=40, headroom_ratio=headroom_ratio, needs_fp8=needs_fp8)
        assert chosen is not None
        return chosen.name

    assert pick(0.0, needs_fp8=False) == "L40S"
    assert pick(0.25, needs_fp8=False) == "A100-80GB"
    assert pick(0.25, needs_fp8=True) == "RTX-PRO-6000"
    assert cheapest(["T4"], vram_gib=40, headroom_ratio=0, needs_fp8=False) is None


@given(seconds=st.floats(0, 1e6), gpu=st.sampled_from(CATALOGUE))
def test_cost_is_never_below_the_exact_price_and_less_than_a_micro_above(seconds: float, gpu: object) -> None:
    from modal_apps.gpus import GpuClass

    assert isinstance(gpu, GpuClass)
    exact = gpu.price_usd_nanos_per_s() * seconds / 1000
    assert exact <= gpu.cost_usd_micros(seconds) < exact + 1.001
