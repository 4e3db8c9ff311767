"""Nothing outlives its leash, whoever is killed and however."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from overspill.dev.leash import descendants
from overspill.dev.process import LeashedProcess

REPOSITORY = Path(__file__).parents[4]
# A shell with a child of its own, and one that has left its session and process group.
FAMILY = "sleep 300 & setsid sleep 301 & echo $$ > pids/shell; wait"


def wait_for(sign: Callable[[], bool], timeout_s: float = 20) -> None:
    until = time.monotonic() + timeout_s
    while not sign():
        assert time.monotonic() < until, "the sign did not come"
        time.sleep(0.02)


def family_of(folder: Path) -> list[int]:
    """The pids of every process that was started in `folder`, found by its marker in their environment."""
    found = []
    for proc in Path("/proc").iterdir():
        if proc.name.isdigit():
            try:
                if f"FAMILY={folder}".encode() in (proc / "environ").read_bytes():
                    found.append(int(proc.name))
            except OSError:
                continue
    return found


def family(folder: Path) -> LeashedProcess:
    (folder / "pids").mkdir()
    return LeashedProcess(
        ["/bin/sh", "-c", FAMILY],
        environment={"PATH": os.environ["PATH"], "FAMILY": str(folder)},
        log=folder / "log",
        cwd=folder,
    )


def has_two_sleepers(folder: Path) -> bool:
    names = []
    for pid in family_of(folder):
        try:
            names.append((Path("/proc") / str(pid) / "comm").read_text().strip())
        except OSError:
            continue
    return names.count("sleep") == 2


def test_descendants_are_found_over_generations() -> None:
    # given a tree 1 -> 2 -> 3, 1 -> 4, and a stranger 9
    parents = {2: 1, 3: 2, 4: 1, 9: 8}
    # then all below 1 are found, and the stranger is not
    assert descendants(1, parents) == [2, 3, 4]


def test_stop_ends_the_whole_family_and_may_be_called_twice(tmp_path: Path) -> None:
    # given a command whose child has left its session
    process = family(tmp_path)
    process.start()
    wait_for(lambda: has_two_sleepers(tmp_path))
    # when it is stopped, twice
    process.stop(grace_s=5)
    process.stop(grace_s=5)
    # then nobody is left
    assert family_of(tmp_path) == []
    assert process.exit_code == 128 + signal.SIGTERM


def test_a_command_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    # given a command that ignores the polite signal, and says when it does
    process = LeashedProcess(
        ["/bin/sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 1; done"],
        environment=os.environ,
        log=tmp_path / "log",
    )
    process.start()
    wait_for(lambda: "deaf" in (tmp_path / "log").read_text())
    # when it is stopped
    began = time.monotonic()
    process.stop(grace_s=0.3)
    # then it was given its grace, and is gone
    assert time.monotonic() - began >= 0.3
    assert not process.is_running


def test_nothing_survives_when_the_starter_is_killed(tmp_path: Path) -> None:
    # given a Python process that has started a family
    program = (
        "import sys, time; from pathlib import Path; from tests.unit.overspill.dev.test_leash import family;"
        "held = family(Path(sys.argv[1])); held.start(); print('started', flush=True); time.sleep(300)"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "started\n"
        wait_for(lambda: has_two_sleepers(tmp_path))
    finally:
        # when it gets SIGKILL, which nobody can handle
        starter.kill()
        starter.communicate(timeout=10)
    # then the family ends all the same
    wait_for(lambda: family_of(tmp_path) == [])


def test_the_command_dies_with_its_leash(tmp_path: Path) -> None:
    # given a command on a leash
    process = LeashedProcess(["sleep", "300"], environment={**os.environ, "FAMILY": str(tmp_path)}, log=tmp_path / "l")
    process.start()
    pids = family_of(tmp_path)
    leash = next(pid for pid in pids if pid != process.pid)
    # when somebody kills the leash itself
    os.kill(leash, signal.SIGKILL)
    # then the command does not run on alone
    wait_for(lambda: family_of(tmp_path) == [] or not process.is_running)
    process.kill()
    wait_for(lambda: family_of(tmp_path) == [])


def test_exit_status_and_output_are_passed_on(tmp_path: Path) -> None:
    # given a command that says something and fails
    lines: list[str] = []
    process = LeashedProcess(
        ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"],
        environment=os.environ,
        log=tmp_path / "log",
        on_line=lines.append,
    )
    # when it has run
    process.start()
    assert process.wait(20) == 7
    process.kill()
    # then its status, its lines and its log are there
    assert sorted(lines) == ["err", "out"]
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


def test_a_program_that_does_not_exist_ends_with_the_shells_status(tmp_path: Path) -> None:
    # given a command that cannot be found / when it is started / then it ends with 127, as in a shell
    process = LeashedProcess(["/nonexistent/program"], environment=os.environ, log=tmp_path / "log")
    process.start()
    assert process.wait(20) == 127
    process.kill()
