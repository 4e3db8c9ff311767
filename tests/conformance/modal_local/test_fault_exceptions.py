"""Every exception of the SDK can be had by a fault; what looks alike can be told apart by the public API."""

import inspect
from collections.abc import Iterator

import modal
import pytest

from modal_local.admin_client import AdminClient
from tests.support.modal_local import start_modal_local

from .conftest import Target, target_for
from .test_scaling import until

pytestmark = pytest.mark.modal_conformance
errors = modal.exception

# Which gRPC status the SDK turns into which exception.
BY_STATUS = {
    "INTERNAL": errors.InternalError,
    "PERMISSION_DENIED": errors.PermissionDeniedError,
    "DATA_LOSS": errors.DataLossError,
    "ALREADY_EXISTS": errors.AlreadyExistsError,
    "ABORTED": errors.ConflictError,
    "OUT_OF_RANGE": errors.InvalidError,
    "NOT_FOUND": errors.NotFoundError,
    "UNIMPLEMENTED": errors.UnimplementedError,
    "UNAUTHENTICATED": errors.AuthError,
    "DEADLINE_EXCEEDED": errors.ServiceError,
}
# Which ending of an input the SDK turns into which.
BY_RESULT = {
    "TIMEOUT": errors.FunctionTimeoutError,
    "INTERNAL_FAILURE": errors.InternalFailure,
    "INIT_FAILURE": errors.RemoteError,
    "FAILURE": errors.RemoteError,
    "TERMINATED": errors.RemoteError,
}


@pytest.fixture(scope="module")
def faulty() -> Iterator[Target]:
    """A server that only these tests break, with one card; it refuses what the live service is reported to refuse."""
    server = start_modal_local(max_containers=8, starts_per_s=50, gpus="H100=1", no_terminate_containers=True)
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


@pytest.mark.parametrize("status", BY_STATUS)
def test_an_rpc_can_end_with_every_status(faulty: Target, admin: AdminClient, status: str) -> None:
    square = faulty.function("square").hydrate()
    admin.inject("status", status=status, methods=["FunctionGetCurrentStats"])
    with pytest.raises(BY_STATUS[status], match="injected"):
        square.get_current_stats()


@pytest.mark.parametrize(
    ("kind", "error"), [("internal", errors.InternalError), ("permission_denied", errors.PermissionDeniedError)]
)
def test_internal_and_permission_denied_have_kinds_of_their_own(
    faulty: Target, admin: AdminClient, kind: str, error: type[Exception]
) -> None:
    square = faulty.function("square").hydrate()
    admin.inject(kind, methods=["FunctionMap"], for_s=30.0)
    with pytest.raises(error, match="injected"):
        square.spawn(1)


@pytest.mark.parametrize("status", BY_RESULT)
def test_an_input_can_end_in_every_way(faulty: Target, admin: AdminClient, status: str) -> None:
    admin.inject("result", status=status, function="square", count=1)
    with pytest.raises(BY_RESULT[status]):
        faulty.function("square").remote(2)
    assert faulty.function("square").remote(2) == 4


def sdk_exceptions() -> list[str]:
    """The public exceptions of the SDK that a result can carry."""
    found = [name for name, one in vars(modal.exception).items() if inspect.isclass(one) and not name.startswith("_")]
    return sorted(
        name for name in found if issubclass(vars(modal.exception)[name], (errors.Error, errors.DeprecationError))
    )


def test_an_input_can_raise_every_exception_of_the_sdk(faulty: Target, admin: AdminClient) -> None:
    square = faulty.function("square")
    wrong = {}
    for name in sdk_exceptions():
        admin.inject("result", exception=name, message="as wished", function="square", count=1)
        try:
            square.remote(2)
        except BaseException as raised:  # noqa: BLE001 - whatever it is, it is compared
            if type(raised).__name__ != name:
                wrong[name] = repr(raised)
        else:
            wrong[name] = "nothing"
    assert wrong == {}


def test_a_crash_loop_a_stock_out_and_a_throttle_are_told_apart_by_statistics(
    faulty: Target, admin: AdminClient
) -> None:
    # given a function whose containers die, one for whose card there is none, and a throttled client
    looping = faulty.function("fail")
    crashing = looping.spawn("3")
    worker = faulty.cls("Worker").with_options(gpu="H100:2")()
    waiting = worker.task.spawn()

    # then the first has containers that failed
    assert until(lambda: looping.stats().container_error_count >= 2)

    # and the second a backlog without any container
    stats, now = worker.task.stats(), worker.task.get_current_stats()
    assert (now.backlog, now.num_total_runners) == (1, 0)
    assert (stats.container_started_count, stats.container_error_count) == (0, 0)

    # and the third is told so itself
    admin.inject("rate_limit", per_s=0.001, burst=0.0)
    with pytest.raises(errors.ResourceExhaustedError, match="Rate limit"):
        faulty.function("square").spawn(1)
    admin.clear()
    for call in (crashing, waiting):
        call.cancel()


def test_to_terminate_containers_is_refused_as_the_live_service_is_reported_to_do(faulty: Target) -> None:
    call = faulty.function("nap").spawn(30.0)
    with pytest.raises(errors.InvalidError, match="terminate_containers must be false"):
        call.cancel(terminate_containers=True)
    call.cancel()
    with pytest.raises(errors.RemoteError, match="cancelled"):
        call.get(timeout=10)
