"""The watermark policy: two thresholds, a least dwell, and the cases that come before them."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.decisions import RunInhouse, RunOnModal, SpillState
from ledger.models import BurstMode, JobRecord, Kind
from ledger.states import State
from ledger.view import ClusterView, KindView
from workers.placement.gpu import GpuNeed
from workers.placement.watermark import WatermarkPolicy, next_spill_state

NEED = GpuNeed(allowed=("H100", "H200"), vram_gib=40, headroom_ratio=0.25, needs_fp8=True, call_estimate_s=100)
POLICY = WatermarkPolicy(high=4, low=1, min_dwell_s=10, needs={Kind.RENDER: NEED})
JOB = JobRecord(
    id="video_1", kind=Kind.RENDER, tenant="t", state=State.QUEUED, priority=5, burst=BurstMode.AUTO,
    created_ms=0, changed_ms=0,
)  # fmt: skip


def _view(now_ms: int = 1_000_000, **here: object) -> ClusterView:
    return ClusterView(now_ms=now_ms, kinds={Kind.RENDER: KindView(**{"live_slots": 2, **here})})  # type: ignore[arg-type]  # test shorthand


@pytest.mark.parametrize(
    ("burst", "here", "rule", "decision"),
    [
        (BurstMode.AUTO, {"waiting_inhouse": 3}, "below_watermark", RunInhouse),
        (BurstMode.AUTO, {"waiting_inhouse": 4}, "above_watermark", RunOnModal),
        (BurstMode.AUTO, {"live_slots": 0}, "no_live_slot", RunOnModal),
        (BurstMode.NEVER, {"waiting_inhouse": 99, "live_slots": 0}, "burst_never", RunInhouse),
        (BurstMode.ALWAYS, {"waiting_inhouse": 0}, "burst_always", RunOnModal),
    ],
)
def test_the_rules(burst: BurstMode, here: dict[str, object], rule: str, decision: type) -> None:
    verdict = POLICY.decide(replace(JOB, burst=burst), _view(**here))
    assert (verdict.receipt.rule, type(verdict.decision)) == (rule, decision)
    assert verdict.receipt.decision == decision.__name__


def test_a_kind_that_fits_no_modal_class_stays_in_house() -> None:
    huge = WatermarkPolicy(high=0, low=0, min_dwell_s=0, needs={Kind.RENDER: replace(NEED, vram_gib=500)})
    assert huge.decide(JOB, _view(live_slots=0)).receipt.rule == "no_modal_class"
    assert POLICY.decide(replace(JOB, kind=Kind.TRAIN), _view()).receipt.rule == "no_modal_class"


def test_the_reservation_covers_the_estimate_on_the_cheapest_class_that_fits() -> None:
    verdict = POLICY.decide(replace(JOB, burst=BurstMode.ALWAYS), _view())
    # 100 s x (1.097 H100 + 2 x 0.0131 cores + 8 x 0.00222 GiB) thousandths of a dollar
    expected = RunOnModal(gpu="H100", reserve_usd_micros=114_096, usd_nanos_per_s=1_140_960, gpus=1)
    assert verdict.decision == expected


def test_between_the_thresholds_it_stays_as_it_was() -> None:
    for active in (True, False):
        spill = SpillState(active, since_ms=1)
        here = KindView(waiting_inhouse=2, live_slots=2, spill=spill)
        assert next_spill_state(here, now_ms=10**9, high=4, low=1, min_dwell_s=10) == spill


def test_it_does_not_change_its_mind_within_the_dwell() -> None:
    here = KindView(waiting_inhouse=0, live_slots=2, spill=SpillState(active=True, since_ms=100_000))
    assert next_spill_state(here, now_ms=109_999, high=4, low=1, min_dwell_s=10).active
    assert not next_spill_state(here, now_ms=110_000, high=4, low=1, min_dwell_s=10).active


@given(
    depths=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5_000)), max_size=60),
    low=st.integers(0, 8),
    gap=st.integers(0, 8),
    dwell_s=st.integers(0, 20),
)
def test_two_changes_of_mind_are_never_closer_than_the_dwell(
    depths: list[tuple[int, int]], low: int, gap: int, dwell_s: int
) -> None:
    now_ms, state, changes = 1_000, SpillState(), []
    for depth, passed_ms in depths:
        now_ms += passed_ms
        here = KindView(waiting_inhouse=depth, live_slots=1, spill=state)
        after = next_spill_state(here, now_ms=now_ms, high=low + gap, low=low, min_dwell_s=dwell_s)
        if after.active != state.active:
            changes.append(now_ms)
        state = after
    assert all(b - a >= dwell_s * 1000 for a, b in itertools.pairwise(changes))
