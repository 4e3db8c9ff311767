"""A container that dies loses no input; a server that dies leaves no container."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.modal_local import start_modal_local

from .conftest import Target, target_for
from .test_cancel import running

pytestmark = pytest.mark.modal_conformance


def gone(pid: int, timeout_s: float = 10.0) -> bool:
    """Whether a process ends in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGSEGV, signal.SIGTERM])
def test_an_input_whose_container_dies_runs_again(local_target: Target, tmp_path: Path, how: signal.Signals) -> None:
    # given a function that kills its container the first time
    call = local_target.function("die_once").spawn(str(tmp_path / "tries"), int(how))

    # then the same input runs again in another one
    assert call.get(timeout=40) == 2


def test_a_clean_exit_in_the_middle_of_an_input_loses_nothing(local_target: Target, tmp_path: Path) -> None:
    # given a container that is killed by us while it works
    call = local_target.function("nap").spawn(2.0)
    running(local_target, call)
    target_pid = local_target.function("where")
    assert target_pid.remote()["sigint_ignored"] is False
    assert call.get(timeout=30) == "slept"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_container_outlives_the_server(how: signal.Signals) -> None:
    # given a server with a container
    server = start_modal_local(max_containers=3)
    try:
        target = target_for(server)
        target.cli("deploy", "-m", "basic_app.app")
        pid = int(str(target.function("where").remote()["pid"]))
        os.kill(pid, 0)

        # when the server goes
        if how is signal.SIGKILL:
            server.kill()
        else:
            server.process.send_signal(how)
            assert server.process.wait(20) == 0

        # then so does the container
        assert gone(pid)
    finally:
        server.stop()


def test_what_a_container_has_started_ends_with_it(local_target: Target) -> None:
    # given a container with a process of its own
    child = int(local_target.function("leave_a_child").remote())
    os.kill(child, 0)

    # when the container is scaled down, then its child is gone too
    assert gone(child, 30.0)
