"""Whether an exception is a call's own result or was raised by asking for it: through the SDK's own reader."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import modal
import pytest
from modal import _functions
from modal import exception as modal_errors
from modal._serialization import serialize
from modal._utils import blob_utils, function_utils
from modal_proto import api_pb2

from workers.overflow.modal_sdk.client import ModalSdk
from workers.overflow.modal_sdk.patches import Origin, mark_origins, origin_of
from workers.overflow.modal_sdk.port import (
    PollFailed,
    PollTimedOut,
    Raised,
    RaisedByMethod,
    ResultTooLarge,
    Returned,
    StillRunning,
)

_FAILED = api_pb2.GenericResult.GENERIC_STATUS_FAILURE


def _raised_by_a_result(result: api_pb2.GenericResult, stub: Any = None) -> BaseException:
    """What the SDK raises for a result."""
    mark_origins()

    async def read() -> None:
        await _functions._process_result(result, api_pb2.DATA_FORMAT_PICKLE, stub)

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - any
        asyncio.run(read())
    return caught.value


def _of(error: BaseException) -> api_pb2.GenericResult:
    return api_pb2.GenericResult(status=_FAILED, exception=repr(error), data=serialize(error))


@pytest.mark.parametrize(
    "error",
    [
        modal_errors.ServiceError("s"), modal_errors.AuthError("a"), modal_errors.ConnectionError("c"),
        modal_errors.ResourceExhaustedError("r"), FileNotFoundError("f"), OSError(5, "o"), TimeoutError(),
    ],
)  # fmt: skip
def test_what_the_method_raised_is_a_result_whatever_its_type(error: BaseException) -> None:
    raised = _raised_by_a_result(_of(error))
    assert type(raised) is type(error)
    assert origin_of(raised) is Origin.RESULT
    # And the same, raised by anybody else, is not
    assert origin_of(error) is Origin.REQUEST


def test_a_method_that_was_cancelled_does_not_cancel_who_asks() -> None:
    raised = _raised_by_a_result(_of(asyncio.CancelledError()))
    assert type(raised) is modal_errors.RemoteError
    assert origin_of(raised) is Origin.RESULT


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_mean_something_if_it_were_raised_here_is_raised_as_another(error: BaseException) -> None:
    raised = _raised_by_a_result(_of(error))
    assert (type(raised), str(raised)) == (RaisedByMethod, type(error).__name__)
    assert origin_of(raised) is Origin.RESULT


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT, modal_errors.FunctionTimeoutError),
        (api_pb2.GenericResult.GENERIC_STATUS_INTERNAL_FAILURE, modal_errors.InternalFailure),
        (api_pb2.GenericResult.GENERIC_STATUS_TERMINATED, modal_errors.RemoteError),
    ],
)
def test_what_modal_says_of_a_call_is_a_result_too(status: Any, kind: type[BaseException]) -> None:
    raised = _raised_by_a_result(api_pb2.GenericResult(status=status, exception="e"))
    assert type(raised) is kind
    assert origin_of(raised) is Origin.RESULT


def test_a_large_result_that_cannot_be_fetched_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store of results that breaks off
    async def download(_: str) -> bytes:
        raise aiohttp.ServerDisconnectedError

    class Stub:
        async def BlobGet(self, _: object) -> api_pb2.BlobGetResponse:  # noqa: N802 - the name of the RPC
            return api_pb2.BlobGetResponse(download_url="http://nowhere")

    monkeypatch.setattr(blob_utils, "_download_from_url", download)
    # When a result lies there, then it is said that it has one, not that it ended so
    raised = _raised_by_a_result(api_pb2.GenericResult(status=_FAILED, data_blob_id="bl-1"), Stub())
    assert origin_of(raised) is Origin.FETCHING


def test_the_names_in_the_sdk_are_where_they_were() -> None:
    # Given what is replaced in the SDK, by name
    mark_origins()
    replaced = [_functions._process_result, function_utils.blob_download]
    # When it is marked a second time, then nothing is replaced twice
    mark_origins()
    assert [_functions._process_result, function_utils.blob_download] == replaced
    assert all(one.__module__ == "workers.overflow.modal_sdk.patches" for one in replaced)


class _Handle:
    """In place of `modal.FunctionCall`: its `get` does what a test says."""

    def __init__(self, get: Callable[[], Awaitable[Any]]) -> None:
        self.get = self
        self.aio = lambda timeout: get()  # noqa: ARG005 - as the SDK names it


@pytest.mark.parametrize(
    ("raises", "expected"),
    [
        (lambda: _raise(TimeoutError()), StillRunning()),
        (lambda: _raise(modal_errors.ServiceError("s")), "poll failed"),
        (lambda: _raise(TimeoutError("of the connection")), "poll failed"),
        (lambda: _raise(ResultTooLarge(1, 1), Origin.FETCHING), "has a result"),
        (lambda: _raise(TimeoutError(), Origin.FETCHING), "has a result"),
        (lambda: _raise(TimeoutError(), Origin.RESULT), "raised"),
        (lambda: _raise(SystemExit(3), Origin.RESULT), "raised"),
        (lambda: asyncio.sleep(60), "timed out"),
        (lambda: asyncio.sleep(0, {"ok": True}), Returned({"ok": True})),
    ],
)
def test_a_poll_tells_a_result_from_not_being_able_to_ask(
    monkeypatch: pytest.MonkeyPatch, raises: Callable[[], Awaitable[Any]], expected: object
) -> None:
    monkeypatch.setattr(modal.FunctionCall, "from_id", lambda *_, **__: _Handle(raises))
    monkeypatch.setattr("workers.overflow.modal_sdk.client.ANSWER_TIMEOUT_S", 0.05)
    port = ModalSdk(app_name="a", environment=None, max_result_bytes=1, client=None)
    match asyncio.run(port.poll("fc-1")):
        case PollFailed(PollTimedOut()):
            found: object = "timed out"
        case PollFailed(_, has_result):
            found = "has a result" if has_result else "poll failed"
        case Raised():
            found = "raised"
        case other:
            found = other
    assert found == expected


async def _raise(error: BaseException, origin: Origin | None = None) -> None:
    if origin is not None:
        vars(error)["_overspill_origin"] = origin
    raise error
