"""Cancellation: of what waits, of what runs, of children; gently and with the container."""

import time
from pathlib import Path

import modal
import pytest

from .conftest import Target

pytestmark = pytest.mark.modal_conformance
CANCELLED = "Function call was cancelled by user or a failure"


def wait_for(path: Path, text: str, timeout_s: float = 15.0) -> str:
    """Waits until a file that a container writes holds a text."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        content = path.read_text() if path.exists() else ""
        if text in content:
            return content
        time.sleep(0.05)
    raise AssertionError(f"{text!r} did not come into {path}: {path.read_text() if path.exists() else 'no file'}")


def running(target: Target, call: modal.FunctionCall, timeout_s: float = 20.0) -> str:
    """Waits until a call runs. Returns its container's id."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for root in call.get_call_graph():
            if root.task_id:
                return root.task_id
        time.sleep(0.05)
    raise AssertionError("the call did not start")


def test_cancel_of_a_running_call_ends_it_and_interrupts_the_code(local_target: Target, tmp_path: Path) -> None:
    # given a running call
    mark = tmp_path / "mark"
    call = local_target.function("nap").spawn(60.0, str(mark))
    running(local_target, call)

    # when it is cancelled
    call.cancel()

    # then the caller sees it at once, and the code is interrupted
    with pytest.raises(modal.exception.RemoteError, match=CANCELLED):
        call.get(timeout=5)
    wait_for(mark, "InputCancellation")


def test_a_container_survives_a_gentle_cancel(local_target: Target) -> None:
    # given a container that has just cancelled an input
    nap = local_target.function("nap")
    call = nap.spawn(60.0)
    task = running(local_target, call)
    call.cancel()

    # then it takes the next one
    after = nap.spawn(0.0)
    assert after.get(timeout=30) == "slept"
    assert after.get_call_graph()[0].task_id == task


def test_cancel_with_terminate_containers_kills_the_container(target: Target) -> None:
    # given a running call
    call = target.cls("Worker").with_options(gpu="A10")().task.spawn(60.0)
    task = running(target, call)

    # when it is cancelled with its container
    call.cancel(terminate_containers=True)

    # then the call is over and the next one gets another container
    with pytest.raises(modal.exception.RemoteError, match=CANCELLED):
        call.get(timeout=5)
    assert target.cls("Worker").with_options(gpu="A10")().task.remote() != task


def test_cancel_of_a_waiting_call(target: Target) -> None:
    # given a pool of one container, which is busy
    alone = target.cls("Worker").with_options(max_containers=1, gpu="L40S")()
    first = alone.task.spawn(30.0)
    running(target, first)
    second = alone.task.spawn(0.0)

    # when the waiting call is cancelled, then it ends and the running one goes on
    second.cancel()
    with pytest.raises(modal.exception.RemoteError, match=CANCELLED):
        second.get(timeout=5)
    with pytest.raises(TimeoutError):
        first.get(timeout=0)
    first.cancel(terminate_containers=True)


def test_cancel_of_a_finished_call_changes_nothing(target: Target) -> None:
    call = target.function("square").spawn(3)
    assert call.get(timeout=30) == 9
    call.cancel()
    assert call.get(timeout=0) == 9
