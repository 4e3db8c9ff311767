"""Which GPU class comes next: the cheapest, a larger one after an out of memory, another when none came."""

import pytest

from workers.placement.gpu import GpuNeed

NEED = GpuNeed(
    allowed=("H100", "H200"), vram_gib=40, headroom_ratio=0.25, needs_fp8=True, call_estimate_s=100,
    fallbacks=("B200", "RTX-PRO-6000"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("larger_than", "without", "name"),
    [
        (None, (), "H100"),
        # Of which no GPU came: the next allowed one, then the fallbacks in their own order, then all over again
        (None, ("H100",), "H200"),
        (None, ("H100", "H200"), "B200"),
        (None, ("H100", "H200", "B200"), "RTX-PRO-6000"),
        (None, ("H100", "H200", "B200", "RTX-PRO-6000"), "H100"),
        # Out of memory: more memory, the cheapest of what is known to work; then whatever the catalogue has
        ("H100", (), "RTX-PRO-6000"),
        ("H100", ("RTX-PRO-6000",), "H200"),
        ("H200", (), "B200"),
        ("B200", (), "B300"),
        ("H200", ("B200",), "B200"),
    ],
)
def test_the_class_that_comes_next(larger_than: str | None, without: tuple[str, ...], name: str) -> None:
    chosen = NEED.choose(larger_than=larger_than, without=without)
    assert chosen is not None
    assert chosen.name == name


def test_nothing_is_larger_than_the_largest() -> None:
    assert NEED.choose(larger_than="B300") is None
