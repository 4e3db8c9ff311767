"""`modal container exec`: a command in a running container, with what the container sees."""

import time
from pathlib import Path

import psutil
import pytest

from .conftest import Target
from .test_cancel import running
from .test_scaling import until

pytestmark = pytest.mark.modal_conformance


def test_a_command_runs_in_the_containers_place(local_target: Target) -> None:
    # given a running container
    call = local_target.function("nap").spawn(30.0)
    task = running(local_target, call)

    # when a command is run in it
    words = ["sh", "-c", "echo $MODAL_TASK_ID $BASIC_MARK; ls; echo to-stderr >&2; exit 3"]
    done = local_target.cli("container", "exec", "--no-pty", task, "--", *words, check=False)

    # then it has the container's environment and directory
    assert f"{task} from the image" in done.stdout
    assert "basic_app" in done.stdout
    assert "to-stderr" in done.stdout + done.stderr
    call.cancel()


def test_a_command_ends_with_its_container(local_target: Target, tmp_path: Path) -> None:
    call = local_target.cls("Worker").with_options(gpu="L4")().task.spawn(60.0)
    task = running(local_target, call)
    pid_file = tmp_path / "pid"

    # given a command that outlives its container
    began = time.monotonic()
    words = ["sh", "-c", f"(sleep 1; kill -9 {pid_of(task)}) & echo $$ > {pid_file}; exec sleep 300"]
    local_target.cli("container", "exec", "--no-pty", task, "--", *words, check=False)

    # then it has ended with it
    assert time.monotonic() - began < 30
    assert until(lambda: not psutil.pid_exists(int(pid_file.read_text())))
    call.cancel()


def pid_of(task_id: str) -> int:
    for process in psutil.process_iter(["environ"]):
        environ = process.info["environ"] or {}
        if environ.get("MODAL_TASK_ID") == task_id:
            return process.pid
    raise AssertionError(f"no process of {task_id}")


def test_a_container_that_is_not_there_is_named(local_target: Target) -> None:
    done = local_target.cli("container", "exec", "--no-pty", "ta-0000000000000000000000", "ls", check=False)
    assert done.returncode != 0
    assert "is not running here" in done.stdout + done.stderr


def test_a_program_that_is_not_there_is_named(local_target: Target) -> None:
    call = local_target.function("nap").spawn(20.0)
    done = local_target.cli(
        "container", "exec", "--no-pty", running(local_target, call), "no-such-program", check=False
    )
    call.cancel()
    assert "no-such-program" in done.stdout + done.stderr
