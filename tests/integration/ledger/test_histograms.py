"""Values are gathered before they are put into their histograms; whoever reads sees each of them, once."""

import pytest

from ledger import Kind, Ledger
from ledger.measuring import Series
from tests.support.activity import run_inhouse

#: The scripts put them into their histograms when so many have written some.
_GATHERED_MOST = 100
_LABELS = "gpu=H100|kind=render"


def _series(ledger: Ledger, metric: str) -> Series:
    (found,) = (series for series in ledger.measuring.read().histograms if series.metric == metric)
    return found


def _gathered(ledger: Ledger) -> int:
    return int(ledger.client.llen(f"{ledger.prefix}:observed"))


def test_every_value_is_seen_at_once_and_once(ledger: Ledger) -> None:
    # given nearly as many values as are gathered
    for number in range(_GATHERED_MOST - 1):
        ledger.observe("spawn_seconds", _LABELS, 0.3 if number % 3 else 4.25)
    # then they are seen, though none is in its histogram, and seeing them changes nothing
    assert not any("spawn_seconds" in name for name in ledger.client.hkeys(f"{ledger.prefix}:counters"))
    for _ in range(2):
        series = _series(ledger, "spawn_seconds")
        assert series.buckets == {"0.5": 66, "5": 33}
        assert series.total == pytest.approx(66 * 0.3 + 33 * 4.25)
    assert _gathered(ledger) == _GATHERED_MOST - 1
    # when one more comes
    ledger.observe("spawn_seconds", _LABELS, 100.0)
    # then they are in their histogram, none is left, and what is seen is the same and that one
    assert _gathered(ledger) == 0
    assert ledger.client.hget(f"{ledger.prefix}:counters", f"spawn_seconds|{_LABELS}|le=0.5") == "66"
    series = _series(ledger, "spawn_seconds")
    assert series.buckets == {"0.5": 66, "5": 33, "120": 1}
    assert series.total == pytest.approx(66 * 0.3 + 33 * 4.25 + 100)


def test_the_newest_job_of_a_bucket_is_its_example_before_and_after(ledger: Ledger) -> None:
    # given two jobs that waited for about as long
    first, second = run_inhouse(ledger, Kind.RENDER), run_inhouse(ledger, Kind.RENDER)
    where = ("job_wait_seconds", (("kind", "render"), ("pool", "inhouse")), "1")
    # then the newer one is the bucket's example
    assert ledger.measuring.read().exemplars[where].job_id == second != first
    # and still is when the values were put into their histograms
    while _gathered(ledger):
        ledger.observe("spawn_seconds", _LABELS, 0.1)
    example = ledger.measuring.read().exemplars[where]
    assert example.job_id == second
    assert 0 <= example.value <= 1
