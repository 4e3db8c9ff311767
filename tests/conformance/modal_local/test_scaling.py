"""From no container to several and back to none; what a container sees; min, max and buffer."""

import time
from collections.abc import Callable
from pathlib import Path

import modal
import pytest

from .conftest import Target
from .test_cancel import wait_for

pytestmark = pytest.mark.modal_conformance


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> bool:
    """Waits until something is so."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def containers(function: modal.Function) -> int:
    return function.get_current_stats().num_total_runners


def test_zero_to_some_to_zero(target: Target) -> None:
    # given a pool that has never run
    worker = target.cls("Worker").with_options(gpu="B200", scaledown_window=2)()
    assert containers(worker.task) == 0

    # when three inputs come, then three containers come
    calls = [worker.task.spawn(1.5) for _ in range(3)]
    assert until(lambda: containers(worker.task) == 3)
    assert len({call.get(timeout=30) for call in calls}) == 3

    # and none is left after the scaledown window
    assert until(lambda: containers(worker.task) == 0)


def test_enter_and_exit_hooks_run_once_per_container(local_target: Target, tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = local_target.cls("Worker").with_options(scaledown_window=2)(log=str(log))
    worker.greet.remote("a")
    worker.greet.remote("b")
    assert wait_for(log, "exit").split() == ["enter", "exit"]


def test_max_containers_holds_and_the_backlog_shows(target: Target) -> None:
    worker = target.cls("Worker").with_options(gpu="H200", max_containers=1)()
    calls = [worker.task.spawn(0.6) for _ in range(3)]
    assert until(lambda: worker.task.get_current_stats().num_running_inputs == 1)
    assert worker.task.get_current_stats().backlog >= 1
    assert len({call.get(timeout=30) for call in calls}) == 1
    assert containers(worker.task) == 1


def test_min_and_buffer_containers_by_the_autoscaler(target: Target) -> None:
    worker = target.cls("Worker").with_options(gpu="A100", scaledown_window=2)()
    # given a minimum of one
    worker.task.autoscaler.update(min_containers=1)
    assert until(lambda: containers(worker.task) == 1)

    # when one input runs and one container is to be spare
    worker.task.autoscaler.update(buffer_containers=1)
    call = worker.task.spawn(3.0)
    assert until(lambda: containers(worker.task) == 2)
    call.get(timeout=30)

    # then with no minimum nothing is left
    worker.task.autoscaler.update(min_containers=0, buffer_containers=0)
    assert until(lambda: containers(worker.task) == 0)


def test_concurrent_inputs_share_a_container(target: Target) -> None:
    assert len(set(target.function("together").map([1.0] * 15))) == 1


def test_batched_inputs_come_together(target: Target) -> None:
    results = sorted(target.function("batch").map(range(4)))
    assert results == [(number, 4) for number in range(4)]


def test_a_container_runs_what_was_deployed_and_sees_nothing_else(local_target: Target) -> None:
    seen = local_target.function("where").remote()
    here = str(Path(__file__).parents[3])
    assert seen["mark"] == "from the image"
    assert not [path for path in seen["path"] if path == here or path.startswith(f"{here}/tests")]
    assert not seen["file"].startswith(here)


def test_snapshot_hooks_run_in_order(target: Target) -> None:
    assert target.cls("Snapped")().story.remote() == ["loaded", "restored"]


def test_with_concurrency_shares_a_container(target: Target) -> None:
    worker = target.cls("Worker").with_concurrency(max_inputs=10).with_options(gpu="T4")()
    assert len(set(worker.task.map([0.5] * 6))) == 1


def test_with_batching_takes_several(target: Target) -> None:
    batch = target.function("batch").with_batching(max_batch_size=2, wait_ms=400)
    assert sorted(batch.map(range(2))) == [(0, 2), (1, 2)]
