"""Cold starts: fixed, drawn, and shorter with snapshots."""

import statistics

import pytest

from modal_local.coldstart import ColdStarts
from modal_local.settings import SettingsError


def test_fixed_and_drawn() -> None:
    assert ColdStarts("2.5", 0).draw(False, 0) == 2.5
    drawn = [ColdStarts("dist", seed).draw(False, 0) for seed in range(400)]
    assert 6.0 < statistics.median(drawn) < 10.0
    assert ColdStarts("dist", 7).draw(False, 0) == ColdStarts("dist", 7).draw(False, 0)


def test_snapshots_shorten_the_third_start() -> None:
    starts = ColdStarts("8", 0)
    assert [starts.draw(True, earlier) for earlier in range(4)] == [8.0, 8.0, 2.0, 2.0]
    assert starts.draw(False, 9) == 8.0


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        ColdStarts(text, 0)
