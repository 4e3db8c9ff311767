"""What Modal refuses is refused, and what is left out here is refused at once and by name."""

from collections.abc import Callable

import modal
import pytest
from modal.exception import InvalidError, UnimplementedError

from .conftest import Target
from .test_cancel import running

pytestmark = pytest.mark.modal_conformance


def nothing() -> None:
    """What each function here does."""


def deploy(target: Target, **options: object) -> None:
    app = modal.App("refused")
    app.function(serialized=True, name="nothing", **options)(nothing)
    app.deploy(client=target.client)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"timeout": 90_000}, "timeout"),
        ({"cloud": "basement"}, "cloud"),
        ({"region": "mars"}, "mars"),
        ({"cpu": 5_000.0}, "cpu"),
        ({"memory": 2**30}, "memory"),
        ({"gpu": "H100:9"}, "at most 8"),
        ({"gpu": "A10:5"}, "at most 4"),
    ],
)
def test_a_function_beyond_the_limits_does_not_deploy(target: Target, options: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidError, match=named):
        deploy(target, **options)


def test_nor_does_with_options_go_beyond_them(target: Target) -> None:
    worker = target.cls("Worker").with_options(gpu="A10:5")()
    with pytest.raises(InvalidError, match="at most 4"):
        worker.task.spawn()
    with pytest.raises(InvalidError, match="timeout"):
        target.cls("Worker").with_options(timeout=90_000)().task.spawn()


def test_a_clustered_function_is_refused(target: Target) -> None:
    app = modal.App("clustered")

    @app.function(serialized=True, gpu="H100:8")
    @modal.clustered(size=2)
    def train() -> None: ...

    with pytest.raises(UnimplementedError, match="clustered functions"):
        app.deploy(client=target.client)


def a_sandbox(target: Target) -> None:
    app = modal.App.lookup("sandboxed", client=target.client, create_if_missing=True)
    modal.Sandbox.create(app=app, client=target.client)


def a_proxy(target: Target) -> None:
    deploy(target, proxy=modal.Proxy.from_name("proxy"))


USES: dict[str, tuple[str, Callable[[Target], object]]] = {
    "sandboxes": ("sandboxes", a_sandbox),
    "proxies": ("proxies", a_proxy),
}


@pytest.mark.parametrize("use", USES)
def test_what_is_left_out_is_refused_by_subject(target: Target, use: str) -> None:
    named, call = USES[use]
    with pytest.raises(UnimplementedError, match=f"{named}.* left out"):
        call(target)


def test_a_terminal_in_a_container_is_refused_by_name(local_target: Target) -> None:
    call = local_target.function("nap").spawn(20)
    done = local_target.cli("container", "exec", "--pty", running(local_target, call), "ls", check=False)
    call.cancel()
    assert done.returncode != 0
    assert "modal_local does not serve terminals" in done.stdout + done.stderr
