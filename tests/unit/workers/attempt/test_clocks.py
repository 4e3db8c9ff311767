"""When an attempt has hung: pure, by a clock of the test's own."""

import math
from dataclasses import replace

import pytest

from ledger import BurstMode, Kind, State
from ledger.models import JobRecord
from tests.support.settings import settings_of
from workers.attempt.heartbeat import Clocks, Heartbeat, clocks_for
from workers.attempt.monitor import Clock, Overrun, Watched
from workers.attempt.slots import Phase, SlotTable, SlotView
from workers.delivery import AttemptOf

VIEW = SlotView(0, 1, 1, AttemptOf("video_1", 1), Kind.RENDER, Phase.RUNNING, 0, 0, patience_s=10, wall_s=100)

RECORD = JobRecord(
    id="video_1", kind=Kind.RENDER, state=State.RUNNING, tenant="default", priority=5, burst=BurstMode.AUTO, attempt=1,
    created_ms=0, changed_ms=0,
)  # fmt: skip


def _watched() -> Watched:
    return Watched(generation=1, began_s=0, moved_s=0, beats=0, renew_at_s=0)


def test_the_progress_clock_starts_again_with_each_beat() -> None:
    watched = _watched()
    for beats in range(9):
        assert watched.see(replace(VIEW, beats=beats), beats * 10.0) is None
    assert watched.see(replace(VIEW, beats=8), 90.0) is None
    assert watched.see(replace(VIEW, beats=8), 90.1) == Overrun(Clock.PROGRESS, 10)


def test_before_the_first_progress_it_is_the_start_that_takes_too_long() -> None:
    assert _watched().see(VIEW, 10.1) == Overrun(Clock.START, 10)


def test_the_wall_clock_never_rests() -> None:
    paused = replace(VIEW, patience_s=math.inf)
    assert _watched().see(paused, 100.0) is None
    assert _watched().see(paused, 100.1) == Overrun(Clock.WALL, 100)


def test_a_delivery_has_one_bound() -> None:
    delivering = replace(VIEW, phase=Phase.DELIVERING, beats=1, patience_s=60, wall_s=math.inf)
    watched = _watched()
    assert watched.see(delivering, 200.0) is None
    assert watched.see(delivering, 260.1) == Overrun(Clock.DELIVERY, 60)


def test_only_a_share_that_grows_is_progress_of_a_render_and_a_pause_rests_the_clock() -> None:
    # given an attempt before its first progress
    table = SlotTable(slots=1)

    def facts() -> tuple[int, float, int]:
        (view,) = table.views()
        return view.beats, view.patience_s, view.progress

    with Heartbeat(table, RECORD, Clocks(start_s=30, progress_s=5, wall_s=100, delivery_s=60)) as heartbeat:
        heartbeat.note_progress(0.0)
        assert facts() == (0, 30, 0)
        # when it waits for S3 / then the clock rests, and afterwards is as long as it was
        with heartbeat.paused():
            assert facts()[1] == math.inf
        assert facts() == (2, 30, 0)
        # when it has progress, and tells of it twice / then it counts once
        heartbeat.note_progress(0.5)
        heartbeat.note_progress(0.5)
        assert facts() == (3, 5, 49)
        # when a run tells of something else (an evaluation) / then that counts, too
        heartbeat.note_activity(0.5)
        assert facts() == (4, 5, 49)
        heartbeat.note_start()
        assert facts() == (5, 30, 49)
    assert table.views() == []


@pytest.mark.parametrize(
    ("kind", "own_s", "wall_s"),
    [(Kind.RENDER, None, 20.0), (Kind.RENDER, 9.0, 9.0), (Kind.TRAIN, None, 40.0), (Kind.TRAIN, 50.0, 40.0)],
)
def test_an_attempts_own_wall_clock_is_bounded_by_its_kinds(kind: Kind, own_s: float | None, wall_s: float) -> None:
    settings = settings_of(render_wall_clock_s=20, train_wall_clock_s=40)
    assert clocks_for(kind, settings, wall_s=own_s).wall_s == wall_s
