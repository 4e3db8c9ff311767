"""A process is killed with all that it started, or goes on as if nothing had been."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from tests.support.waiting import until
from workers.attempt.process_tree import kill_tree

#: Starts a child that starts a child, and then counts.
PROGRAM = (
    "import subprocess, sys, time\n"
    'child = \'import subprocess, time; subprocess.Popen(["sleep", "1000"]); time.sleep(1000)\'\n'
    "subprocess.Popen([sys.executable, '-c', child])\n"
    "while True:\n"
    "    print('.', flush=True); time.sleep(0.01)\n"
)


@pytest.fixture
def family() -> Iterator[list[psutil.Process]]:
    """A process, its child, and its grandchild."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.DEVNULL) as started:
        first = psutil.Process(started.pid)
        others = until(lambda: first.children(recursive=True), lambda found: len(found) == 2, timeout_s=20)
        everyone = [first, *others]
        try:
            yield everyone
        finally:
            for one in everyone:
                if one.is_running():
                    one.kill()


def _is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_all_of_it_dies_and_it_is_stopped_when_that_is_decided(family: list[psutil.Process]) -> None:
    seen: list[str] = []

    def confirm() -> bool:
        seen.append(family[0].status())
        return True

    assert kill_tree(family[0].pid, parent_id=os.getpid(), confirm=confirm)
    assert seen == [psutil.STATUS_STOPPED]
    for one in family:
        until(lambda one=one: _is_gone(one), bool, timeout_s=10)  # type: ignore[misc]


def test_one_that_is_not_to_die_goes_on(family: list[psutil.Process]) -> None:
    assert not kill_tree(family[0].pid, parent_id=os.getpid(), confirm=lambda: False)
    until(family[0].status, lambda status: status != psutil.STATUS_STOPPED, timeout_s=10)
    assert all(one.is_running() for one in family)


def test_somebody_elses_process_is_left_alone(family: list[psutil.Process]) -> None:
    # given an id that now belongs to a process which is no child of ours
    grandchild = family[1]
    # when it is to be killed / then it counts as dead, and is not touched
    assert kill_tree(grandchild.pid, parent_id=os.getpid(), confirm=lambda: True)
    assert grandchild.is_running()
    assert grandchild.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)


def test_one_that_is_dead_is_dead() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert kill_tree(process.pid, parent_id=os.getpid(), confirm=lambda: True)
