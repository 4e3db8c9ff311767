"""Memory that processes share: what one writes down about its attempt, the other reads."""

import math
import multiprocessing
import os
import subprocess
import sys

import pytest

from ledger import Kind
from workers.attempt.slots import Phase, SlotTable
from workers.delivery import AttemptOf

ONE, OTHER = AttemptOf("video_1", 3), AttemptOf("video_2", 1)


def test_what_is_written_down_is_read_until_it_is_released() -> None:
    # given an attempt that has begun, with progress
    table = SlotTable(slots=2)
    slot = table.take(ONE, Kind.RENDER, patience_s=30, wall_s=100)
    slot.beat(patience_s=5, progress=42)
    # when it is read
    (view,) = table.views()
    # then everything is there
    assert (view.of, view.kind, view.process_id) == (ONE, Kind.RENDER, os.getpid())
    assert (view.phase, view.progress, view.beats, view.patience_s, view.wall_s) == (Phase.RUNNING, 42, 1, 5, 100)
    # and in its delivery it has another bound, and no wall clock
    slot.deliver(patience_s=60)
    (view,) = table.views()
    assert (view.phase, view.beats, view.patience_s, view.wall_s) == (Phase.DELIVERING, 2, 60, math.inf)
    # and when it is released, twice, nothing is
    slot.release()
    slot.release()
    assert table.views() == []


def test_what_is_said_of_one_attempt_means_no_other() -> None:
    # given an attempt of which it was said that it is lost
    table = SlotTable(slots=1)
    first = table.take(ONE, Kind.RENDER, patience_s=1, wall_s=1)
    (view,) = table.views()
    table.mark_lost(view)
    assert first.is_lost()
    first.release()
    # when the slot has the next one, and the first is released once more
    second = table.take(OTHER, Kind.TRAIN, patience_s=1, wall_s=1)
    first.release()
    # then that goes on
    assert not second.is_lost()
    assert [one.of for one in table.views()] == [OTHER]


def test_there_are_as_many_as_there_are() -> None:
    table = SlotTable(slots=1)
    table.take(ONE, Kind.RENDER, patience_s=1, wall_s=1)
    with pytest.raises(ValueError, match="at most 1"):
        table.take(OTHER, Kind.RENDER, patience_s=1, wall_s=1)


def test_a_forked_process_is_seen_and_hears_that_its_attempt_is_lost() -> None:
    # given a process that begins an attempt, and then waits for its loss
    table = SlotTable(slots=1)
    context = multiprocessing.get_context("fork")
    ready, heard = context.Event(), context.Event()

    def work() -> None:
        slot = table.take(ONE, Kind.RENDER, patience_s=30, wall_s=math.inf)
        assert not slot.is_lost()
        ready.set()
        while not slot.is_lost():
            pass
        heard.set()

    process = context.Process(target=work)
    process.start()
    try:
        assert ready.wait(20)
        (view,) = table.views()
        assert (view.of, view.process_id) == (ONE, process.pid)
        # when it is said / then it hears
        table.mark_lost(view)
        assert heard.wait(20)
    finally:
        process.kill()
        process.join()


def test_an_attempt_whose_main_process_is_gone_is_lost() -> None:
    # given a main process that forks one of its pool, and dies; nobody renews the lease any more
    program = (
        "import os\n"
        "from ledger import Kind\n"
        "from workers.attempt.slots import SlotTable\n"
        "from workers.delivery import AttemptOf\n"
        "table = SlotTable(slots=1)\n"
        "if os.fork():\n"
        "    os._exit(0)\n"
        "slot = table.take(AttemptOf('video_1', 1), Kind.RENDER, patience_s=1, wall_s=1)\n"
        "while not slot.is_lost():\n"
        "    pass\n"
        "print('lost')\n"
    )
    # when the process of the pool asks / then its attempt is lost
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout == "lost\n"
