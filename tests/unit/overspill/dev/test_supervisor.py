"""Processes that die are started again, with growing pauses, until they are stopped."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from overspill.dev.errors import NotReady
from overspill.dev.procfile import Entry
from overspill.dev.supervisor import FIRST_PAUSE_S, LONGEST_PAUSE_S, WELL_AFTER_S, Supervisor, next_pause_s


def test_pauses_double_up_to_a_bound_and_start_again_after_a_good_run() -> None:
    # given a process that dies at once, again and again
    pauses: list[float] = []
    pause: float | None = None
    for _ in range(10):
        pause = next_pause_s(pause, ran_s=0.0)
        pauses.append(pause)
    # then each pause is twice the last, up to the bound
    assert pauses[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    # and after a good run the first pause comes again
    assert next_pause_s(pauses[-1], ran_s=WELL_AFTER_S) == FIRST_PAUSE_S


class Lines:
    """Collects log lines, and waits for one."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self._more = threading.Condition()

    def __call__(self, name: str, line: str) -> None:
        with self._more:
            self.all.append((name, line))
            self._more.notify_all()

    def wait_for(self, text: str, times: int = 1) -> None:
        with self._more:
            assert self._more.wait_for(lambda: sum(text in line for _, line in self.all) >= times, timeout=20), self.all


def supervisor(tmp_path: Path, lines: Lines, *commands: str) -> Supervisor:
    entries = [Entry(f"sample.{number}", command) for number, command in enumerate(commands, start=1)]
    return Supervisor(entries, environment=os.environ, cwd=tmp_path, logs=tmp_path, on_log=lines)


def test_a_killed_process_is_started_again_under_its_own_name(tmp_path: Path) -> None:
    # given a supervised process that says its name
    lines = Lines()
    supervised = supervisor(tmp_path, lines, "echo I am $HONCHO_PROCESS_NAME; exec sleep 300")
    supervised.start()
    try:
        lines.wait_for("I am sample.1")
        first_pid = supervised["sample.1"].pid
        # when it is killed
        supervised["sample.1"].process.signal(signal.SIGKILL)
        # then that is said, and it comes again as another process
        lines.wait_for("ended with exit status 137")
        lines.wait_for("I am sample.1", times=2)
        assert supervised["sample.1"].pid != first_pid
        assert supervised["sample.1"].starts == 2
    finally:
        supervised.stop(grace_s=5)


def test_all_are_stopped_together_and_stay_stopped(tmp_path: Path) -> None:
    # given three processes, one of which ignores SIGTERM
    lines = Lines()
    deaf = "trap '' TERM; echo up; while true; do sleep 1; done"
    supervised = supervisor(tmp_path, lines, "echo up; exec sleep 300", "echo up; exec sleep 300", deaf)
    supervised.start()
    lines.wait_for("up", times=3)
    # when they are stopped, twice
    began = time.monotonic()
    supervised.stop(grace_s=1)
    supervised.stop(grace_s=1)
    # then the grace is given once for all of them, and none runs or comes again
    assert time.monotonic() - began < 10
    assert all(not supervised[name].process.is_running for name in supervised.names)
    assert [supervised[name].starts for name in supervised.names] == [1, 1, 1]


def test_a_process_that_cannot_start_is_noticed(tmp_path: Path) -> None:
    # given a command that fails at once
    lines = Lines()
    supervised = supervisor(tmp_path, lines, "echo broken >&2; exit 3")
    supervised.start()
    try:
        # when it has failed twice
        lines.wait_for("broken", times=2)
        # then waiting for it makes no sense, and the sentence names its log
        with pytest.raises(NotReady, match=r"sample\.1 did not become ready.*sample\.1\.log"):
            supervised.check_alive(most_starts=1)
    finally:
        supervised.stop(grace_s=1)


def test_stopping_before_the_start_is_harmless(tmp_path: Path) -> None:
    # given / when / then
    supervisor(tmp_path, Lines(), "exec sleep 300").stop()
