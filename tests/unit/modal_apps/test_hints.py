"""Hints: few, small, never in the way of a render, and read back whatever lies in the queue."""

import json
import operator
import queue
import threading
from functools import partial

import pytest

from modal_apps.hints import PARTITIONS, PROGRESS_STEP_PERCENT, CallHint, Hinter, parse_hint, partition_of
from tests.support.waiting import until


class _Queue:
    """Takes hints, and tells when so many are there."""

    def __init__(self, *, fails: bool = False) -> None:
        self.items: list[tuple[str, str]] = []
        self.put_once = threading.Event()
        self.fails = fails

    def put(self, item: str, partition: str) -> None:
        self.items.append((item, partition))
        self.put_once.set()
        if self.fails:
            raise queue.Full

    @property
    def whats(self) -> list[str]:
        return [json.loads(item)[3] for item, _ in self.items]


def test_a_call_says_that_it_began_how_far_it_is_and_that_it_ended() -> None:
    # Given a hinter that may put progress at any time
    box = _Queue()
    hinter = Hinter("video_1", 2, "fc-1", put=box.put, every_s=0.01)
    hinter.start()
    hinter.progress(40.6)
    assert box.put_once.wait(5)
    # When the call is done
    hinter.done(peak_gpu_memory_bytes=7, result_bytes=9)
    assert hinter.join(5)
    # Then the last hint tells what there is to know, and all went into the job's own partition
    assert box.whats[0] == "started"
    assert parse_hint(box.items[-1][0]) == CallHint("video_1", 2, "fc-1", "done", 100, 7, 9)
    assert {partition for _, partition in box.items} == {f"p{partition_of('video_1')}"}


def test_progress_is_put_seldom_however_often_it_is_told() -> None:
    box = _Queue()
    hinter = Hinter("video_1", 1, "fc-1", put=box.put, every_s=60)
    hinter.start()
    for percent in range(100):
        hinter.progress(percent)
    hinter.done()
    assert hinter.join(5)
    assert box.whats == ["started", "done"]


def test_progress_is_put_in_steps_however_long_a_call_takes() -> None:
    # Given a call that is looked at so often that no percent of its progress is missed
    box = _Queue()
    hinter = Hinter("video_1", 1, "fc-1", put=box.put, every_s=0.001)
    hinter.start()
    # When it goes on by one percent after the other
    for percent in range(1, 100):
        hinter.progress(percent)
        if percent % PROGRESS_STEP_PERCENT == 0:
            until(
                lambda: box.whats.count("progress"), partial(operator.le, percent // PROGRESS_STEP_PERCENT), timeout_s=5
            )
    hinter.done()
    assert hinter.join(5)
    # Then it has said each fifth percent, once
    percents = [json.loads(item)[4] for item, _ in box.items if json.loads(item)[3] == "progress"]
    assert percents == list(range(PROGRESS_STEP_PERCENT, 100, PROGRESS_STEP_PERCENT))


def test_a_queue_that_takes_nothing_does_no_harm() -> None:
    box = _Queue(fails=True)
    hinter = Hinter("video_1", 1, "fc-1", put=box.put, every_s=0.01)
    hinter.start()
    hinter.progress(50)
    hinter.done()
    assert hinter.join(5)
    assert "done" in box.whats


@pytest.mark.parametrize(
    "wire",
    [
        None, 7, "p", (), ("video_1", 1, "fc", "started"), ("video_1", "1", "fc", "started", None, None, None),
        ("video_1", 1, "fc", "ended", None, None, None), ("video_1", 1, "fc", "done", -1, None, None),
        ("video_1", 1, "fc", "done", True, None, None), (1, 1, "fc", "done", 1, 1, 1),
        ("v", 1, "fc", ["done"], 1, 1, 1),
    ],
)  # fmt: skip
def test_what_is_no_hint_is_passed_over(wire: object) -> None:
    assert parse_hint(wire) is None
    assert parse_hint(json.dumps(wire)) is None


def test_jobs_are_spread_over_all_partitions() -> None:
    assert {partition_of(f"video_{number}") for number in range(200)} == set(range(PARTITIONS))
