"""Every kind of container that takes several inputs at once ends, and costs nothing more, once it has been idle."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import modal
import pytest

from modal_local.admin_client import AdminClient
from tests.support.modal_local import start_modal_local

from .conftest import Target, target_for
from .test_scaling import until

pytestmark = pytest.mark.modal_conformance


@pytest.fixture(scope="module")
def concurrent_target() -> Iterator[Target]:
    """A server with room for all at once: none of them is stopped to make room for another."""
    server = start_modal_local(max_containers=40, starts_per_s=50)
    try:
        target = target_for(server)
        target.cli("deploy", "-m", "concurrent_app.app", project="concurrent")
        yield target
    finally:
        server.stop()


def admin_of(target: Target) -> AdminClient:
    assert target.server is not None
    return AdminClient(target.server.admin_url)


def function(target: Target, name: str) -> modal.Function:
    return modal.Function.from_name("concurrent", name, client=target.client)


def cls(target: Target, name: str) -> modal.Cls:
    return modal.Cls.from_name("concurrent", name, client=target.client)


def raises(kind: type[BaseException], call: Callable[[], object]) -> None:
    with pytest.raises(kind):
        call()


def one_after_another(target: Target) -> None:
    for _ in range(3):
        function(target, "plain").remote(0.0)


def a_cancelled_one(target: Target) -> None:
    call = cls(target, "Renderer").with_options(gpu="T4")().render.spawn(60.0)
    assert until(lambda: bool(call.get_call_graph()[0].task_id))
    call.cancel()
    raises(modal.exception.RemoteError, lambda: call.get(timeout=20))


USES: dict[str, Callable[[Target], object]] = {
    "async function": lambda target: function(target, "plain").remote(0.0),
    "one after another": one_after_another,
    "more than fit": lambda target: list(function(target, "plain").map([0.3] * 20)),
    "sync function in threads": lambda target: list(function(target, "threaded").map([0.1] * 4)),
    "target_inputs": lambda target: list(function(target, "targeted").map([0.2] * 6)),
    "generator": lambda target: list(function(target, "counted").remote_gen(3)),
    "batched": lambda target: list(function(target, "batched").map(range(6))),
    "batched alone": lambda target: list(function(target, "batched_alone").map(range(6))),
    "timeout": lambda target: raises(modal.exception.FunctionTimeoutError, function(target, "overdue").remote),
    "exception": lambda target: raises(ValueError, function(target, "failing").remote),
    "class": lambda target: cls(target, "Renderer")().render.remote(),
    "class with a variant": lambda target: cls(target, "Renderer").with_options(gpu="H100")().render.remote(),
    "class with parameters": lambda target: cls(target, "Tuned")(size=3).work.remote(),
    "generator of a class": lambda target: list(cls(target, "Tuned")(size=4).each.remote_gen(3)),
    "cancel": a_cancelled_one,
}


def test_every_container_with_concurrency_scales_to_zero(concurrent_target: Target) -> None:
    # given a use of each kind, all at once
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(use, concurrent_target) for use in USES.values()]:
            done.result()

    # then every container ends, within its window and little more, for that reason, and costs nothing more
    def living() -> list[str]:
        return [row["function_tag"] for row in admin_of(concurrent_target).containers() if not row["ended_at"]]

    assert until(lambda: not living(), timeout_s=15.0), living()
    assert {row["end_reason"] for row in admin_of(concurrent_target).containers()} <= {"scaledown", "did not cancel"}


def test_a_redeploy_ends_a_container_that_is_idle(concurrent_target: Target) -> None:
    # given a container that is idle, with its request for more inputs open
    renderer = cls(concurrent_target, "Renderer").with_options(gpu="L4", scaledown_window=60)()
    renderer.render.remote()

    # when the app is deployed again, changed
    environ = {**concurrent_target.environ, "CONCURRENT_MARK": "changed"}
    replace(concurrent_target, environ=environ).cli("deploy", "-m", "concurrent_app.app", project="concurrent")

    # then it goes, and so does its successor after its own window
    assert until(lambda: renderer.render.get_current_stats().num_total_runners == 0)
    assert renderer.render.remote() is True
    renderer.render.autoscaler.update(scaledown_window=2)
    assert until(lambda: renderer.render.get_current_stats().num_total_runners == 0)


def test_a_container_with_concurrency_goes_after_a_window_that_was_shortened(concurrent_target: Target) -> None:
    # given a container that is idle, with its request for more inputs open
    renderer = cls(concurrent_target, "Renderer").with_options(gpu="A100", scaledown_window=60)()
    renderer.render.remote()
    assert renderer.render.get_current_stats().num_total_runners == 1

    # when the window is shortened, then it goes after the shorter one
    renderer.render.autoscaler.update(scaledown_window=2)
    assert until(lambda: renderer.render.get_current_stats().num_total_runners == 0)
