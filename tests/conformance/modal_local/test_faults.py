"""Each fault, and what the SDK makes of it. The last tests are of the admin API itself."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import modal
import pytest

from modal_local.admin_client import AdminClient, AdminError
from tests.support.modal_local import start_modal_local

from .conftest import Target, make_client, target_for
from .test_cancel import running

WAIT_S = 60


@pytest.fixture(scope="module")
def faulty() -> Iterator[Target]:
    """A server that only these tests break."""
    server = start_modal_local(max_containers=6, starts_per_s=50, gpus="H100=4,L4=4,A10=4", heartbeat_timeout_s=8)
    try:
        target = target_for(server)
        target.cli("deploy", "-m", "basic_app.app")
        yield target
    finally:
        server.stop()


@pytest.fixture
def admin(faulty: Target) -> Iterator[AdminClient]:
    assert faulty.server is not None
    client = AdminClient(faulty.server.admin_url)
    yield client
    client.clear()


@pytest.mark.parametrize("kind", ["kill", "oom", "preempt"])
def test_a_struck_container_loses_no_input(faulty: Target, admin: AdminClient, kind: str) -> None:
    # given a running call
    call = faulty.function("nap").spawn(2.0)
    task = running(faulty, call)

    # when its container is struck, then the call still ends well, in another container
    admin.inject(kind, task_id=task)
    assert call.get(timeout=WAIT_S) == "slept"
    [entry] = admin.call(call.object_id)["inputs"]
    assert entry["attempt"] == 2
    assert entry["task_id"] != task
    [dead] = [one for one in admin.containers() if one["task_id"] == task]
    assert dead["exit_code"] == (137 if kind != "preempt" else 0)


def test_a_hanging_container_is_found_by_its_silence(faulty: Target, admin: AdminClient) -> None:
    call = faulty.function("nap").spawn(1.0)
    task = running(faulty, call)
    admin.inject("hang", task_id=task)
    assert call.get(timeout=90) == "slept"
    [dead] = [one for one in admin.containers() if one["task_id"] == task]
    assert dead["end_reason"] == "missed heartbeats"


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        ("internal_failure", modal.exception.InternalFailure),
        ("remote_error", modal.exception.RemoteError),
        ("init_failure", modal.exception.RemoteError),
    ],
)
def test_a_crash_loop_ends_as_the_policy_says(
    faulty: Target, admin: AdminClient, policy: str, error: type[Exception]
) -> None:
    admin.inject("crash_policy", policy=policy, limit=1)
    admin.inject("crash_on_input", function="big")
    with pytest.raises(error, match="exit code: 137"):
        faulty.function("big").spawn(3).get(timeout=WAIT_S)


def test_a_crash_loop_stays_pending_by_default_and_heals(faulty: Target, admin: AdminClient) -> None:
    # a pool of its own, whose backoff starts from nothing
    admin.inject("crash_on_input", function="Worker.*", count=3)
    call = faulty.cls("Worker").with_options(gpu="L4", timeout=75)().greet.spawn("x")
    with pytest.raises(TimeoutError) as pending:
        call.get(timeout=0.5)
    assert pending.value.args == ()
    assert call.get(timeout=WAIT_S) == "hello x 42 one"
    assert admin.call(call.object_id)["inputs"][0]["crashes"] == 3


def test_failing_enter_once_heals_and_for_ever_is_told(faulty: Target, admin: AdminClient) -> None:
    worker = faulty.cls("Worker").with_options(gpu="L4")()
    admin.inject("enter_failure", function="Worker.*", count=1)
    assert worker.greet.spawn("a").get(timeout=WAIT_S)

    other = faulty.cls("Worker").with_options(gpu="L4", timeout=70)()
    admin.inject("enter_failure", function="Worker.*", message="no such card")
    with pytest.raises(RuntimeError, match="no such card"):
        other.greet.spawn("b").get(timeout=WAIT_S)


def test_failing_starts_heal(faulty: Target, admin: AdminClient) -> None:
    admin.inject("start_failure", function="Worker.*", count=2)
    worker = faulty.cls("Worker").with_options(gpu="L4", timeout=71)()
    assert worker.greet.spawn("a").get(timeout=WAIT_S)


def test_failing_starts_end_as_the_policy_says(faulty: Target, admin: AdminClient) -> None:
    admin.inject("start_failure", function="Worker.*")
    admin.inject("crash_policy", policy="init_failure")
    worker = faulty.cls("Worker").with_options(gpu="L4", timeout=72)()
    with pytest.raises(modal.exception.RemoteError, match="exit code: 1"):
        worker.greet.spawn("a").get(timeout=WAIT_S)


def test_an_exhausted_gpu_type_leaves_the_call_waiting(faulty: Target, admin: AdminClient) -> None:
    fault = admin.inject("gpu_exhausted", gpu="H100")
    worker = faulty.cls("Worker").with_options(gpu="H100")()
    call = worker.greet.spawn("a")
    with pytest.raises(TimeoutError):
        call.get(timeout=1.5)
    assert worker.greet.get_current_stats().backlog == 1
    admin.clear(fault["fault_id"])
    assert call.get(timeout=WAIT_S)


def test_the_inventory_holds(faulty: Target) -> None:
    # given four cards, and a class that takes two for each container
    worker = faulty.cls("Worker").with_options(gpu="A10:2")()
    calls = [worker.task.spawn(3.0) for _ in range(3)]
    for call in calls[:2]:
        running(faulty, call)

    # then the third waits
    assert worker.task.get_current_stats().num_total_runners == 2
    assert worker.task.get_current_stats().backlog == 1
    assert len({call.get(timeout=WAIT_S) for call in calls}) == 2


def test_expired_results(faulty: Target, admin: AdminClient) -> None:
    call = faulty.function("square").spawn(3)
    assert call.get(timeout=WAIT_S) == 9
    admin.inject("expire_results", call_id=call.object_id)
    with pytest.raises(modal.exception.OutputExpiredError):
        call.get(timeout=0)


def test_a_lost_answer_is_asked_for_again_and_nothing_runs_twice(faulty: Target, admin: AdminClient) -> None:
    before = len(admin.calls())
    fault = admin.inject("lost_answer", methods=["FunctionMap"], count=2)
    call = faulty.function("square").spawn(4)
    assert call.get(timeout=WAIT_S) == 16
    assert len(admin.calls()) == before + 1
    assert fault["fault_id"] not in {one["fault_id"] for one in admin.faults()["active"]}


def test_unavailable_a_few_times_is_retried_and_for_ever_is_told(faulty: Target, admin: AdminClient) -> None:
    admin.inject("unavailable", methods=["FunctionMap"], count=2)
    assert faulty.function("square").spawn(5).get(timeout=WAIT_S) == 25

    admin.inject("unavailable", methods=["FunctionMap"])
    with pytest.raises(modal.exception.ServiceError, match="injected"):
        faulty.function("square").spawn(5)


def test_resource_exhausted_with_and_without_retry_detail(faulty: Target, admin: AdminClient) -> None:
    square = faulty.function("square")
    square.hydrate()
    # with a detail the client waits and tries again, as long as it takes
    admin.inject("resource_exhausted", methods=["FunctionMap"], count=2, retry_after_s=0.3)
    began = time.monotonic()
    call = square.spawn(6)
    assert time.monotonic() - began >= 0.6
    assert call.get(timeout=WAIT_S) == 36

    # without one it tells at once
    admin.inject("resource_exhausted", methods=["FunctionMap"], count=1)
    with pytest.raises(modal.exception.ResourceExhaustedError):
        square.spawn(6)


def test_the_rate_limit_lets_a_burst_through_and_no_more(faulty: Target, admin: AdminClient) -> None:
    square = faulty.function("square")
    square.hydrate()
    admin.inject("rate_limit", per_s=0.5, burst=3)
    calls = [square.spawn(number) for number in range(3)]
    with pytest.raises(modal.exception.ResourceExhaustedError, match="Rate limit"):
        square.spawn(99)
    assert [call.get(timeout=WAIT_S) for call in calls] == [0, 1, 4]


def test_latency(faulty: Target, admin: AdminClient) -> None:
    square = faulty.function("square")
    square.hydrate()
    admin.inject("latency", methods=["FunctionMap"], seconds=0.7, count=1)
    began = time.monotonic()
    square.spawn(1)
    assert time.monotonic() - began >= 0.7


def test_a_cold_start_can_be_made_longer(faulty: Target, admin: AdminClient) -> None:
    admin.inject("cold_start", seconds=2.0)
    began = time.monotonic()
    faulty.cls("Worker").with_options(gpu="L4", timeout=73)().greet.remote("x")
    assert time.monotonic() - began >= 2.0


def test_at_the_stream_limit_further_calls_wait(faulty: Target, admin: AdminClient) -> None:
    # given a client that may have two streams, and two waits of a few seconds on them
    assert faulty.server is not None
    admin.inject("stream_limit", limit=2)
    client = make_client(faulty.server)
    nap = modal.Function.from_name("basic", "nap", client=client)
    call = nap.spawn(20.0)

    def wait() -> None:
        with pytest.raises(TimeoutError):
            call.get(timeout=3.0)

    waits = [threading.Thread(target=wait) for _ in range(2)]
    for one in waits:
        one.start()
    time.sleep(0.5)

    # then one call more takes until a wait is over
    began = time.monotonic()
    nap.get_current_stats()
    assert time.monotonic() - began > 1.0
    for one in waits:
        one.join()
    call.cancel(terminate_containers=True)


def test_a_cut_connection_is_made_again(faulty: Target, admin: AdminClient) -> None:
    # given an open wait
    call = faulty.function("nap").spawn(2.0)
    running(faulty, call)
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(call.get(timeout=WAIT_S)))
    waiter.start()
    time.sleep(0.3)

    # when every connection is cut, the containers' too, then the call ends well
    admin.inject("disconnect")
    waiter.join(WAIT_S)
    assert results == ["slept"]


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_a_skewed_clock_shows_in_what_the_server_tells_and_disturbs_nothing(
    faulty: Target, admin: AdminClient, seconds: float
) -> None:
    # given a call that runs while the clock jumps
    running_call = faulty.function("nap").spawn(2.0)
    running(faulty, running_call)
    admin.inject("clock_skew", seconds=seconds)

    # then what begins now says so, and what ran goes on undisturbed
    call = faulty.function("square").spawn(2)
    assert call.get(timeout=WAIT_S) == 4
    assert abs(admin.call(call.object_id)["created_at"] - time.time() - seconds) < 60
    assert running_call.get(timeout=WAIT_S) == "slept"
    assert admin.call(running_call.object_id)["inputs"][0]["attempt"] == 1


def test_a_script_plays_in_time_and_random_faults_lose_nothing(tmp_path: Path) -> None:
    # given a server with a script: a scripted kill, and random deaths from a seed
    script = tmp_path / "faults.toml"
    script.write_text(
        'seed = 7\n[[fault]]\nkind = "unavailable"\nmethods = ["FunctionGetOutputs"]\ncount = 2\nat_s = 0.0\n'
        '[[fault]]\nkind = "cold_start"\nseconds = 0.1\nat_s = 0.5\n'
        '[[random]]\nmean_interval_s = 1.0\nuntil_s = 12.0\nkinds = ["kill", "preempt", "start_failure"]\n'
    )
    server = start_modal_local(max_containers=4, starts_per_s=50, faults=script)
    try:
        target = target_for(server)
        target.cli("deploy", "-m", "basic_app.app")

        # when calls run under it, then each gives its result
        calls = [target.function("nap").spawn(0.5) for _ in range(12)]
        assert [call.get(timeout=100) for call in calls] == ["slept"] * 12
        kinds = {entry["kind"] for entry in AdminClient(server.admin_url).faults()["history"]}
        assert {"unavailable", "cold_start"} <= kinds
    finally:
        server.stop()


# The admin API.


def test_spend_is_told_per_container(faulty: Target, admin: AdminClient) -> None:
    task = faulty.cls("Worker").with_options(gpu="H100", timeout=74)().task.remote()
    spend = admin.spend()
    [entry] = [one for one in spend["containers"] if one["id"] == task]
    assert entry["gpu_type"] == "H100"
    assert entry["function_tag"] == "Worker.*"
    # an H100 is 1,097 micro-dollars a second; with 0.125 cores and 128 MiB a little more
    # (a container of a few hundredths of a second costs few whole micro-dollars: the last one is rounded)
    assert 1_090 * entry["seconds"] - 1 <= entry["usd_micros"] <= 1_110 * entry["seconds"] + 1
    assert spend["usd_micros"] == sum(one["usd_micros"] for one in spend["containers"])


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"kind": "no_such"}, "kind"),
        ({"kind": "kill", "colour": "red"}, "colour"),
        ({"kind": "latency", "seconds": "long"}, "seconds"),
        ({"kind": "gpu_exhausted"}, "gpu"),
        ({"kind": "stream_limit"}, "limit"),
        ({"kind": "crash_policy", "policy": "shrug"}, "policy"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_by_name(admin: AdminClient, fields: dict[str, Any], word: str) -> None:
    with pytest.raises(AdminError, match=word) as refused:
        admin.inject(**fields)
    assert refused.value.status == 400


def test_a_fault_with_nothing_to_strike_says_so(admin: AdminClient) -> None:
    with pytest.raises(AdminError, match="no container fits") as refused:
        admin.inject("kill", task_id="ta-none")
    assert refused.value.status == 404


def test_browsers_are_refused(faulty: Target) -> None:
    assert faulty.server is not None
    request = urllib.request.Request(f"{faulty.server.admin_url}/health", headers={"Origin": "http://evil.example"})  # noqa: S310 - loopback
    opener: Callable[..., Any] = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener(request)
    assert refused.value.code == 403
    refused.value.close()
