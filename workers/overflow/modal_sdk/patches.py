"""What is changed in the SDK: exceptions carry where they came from, and large results are bounded.

**Origin.** An exception is a call's own result, or was raised by the poll. The SDK raises both out of the same `get`,
by the same types: a `ServiceError`, an `OSError` or an `AuthError` may mean that Modal is away, or that the remote
function raised one. The first says nothing about the call; the second is its end. So the SDK's two functions that turn
an answer into an exception mark what leaves them: the one that reads a result, and the one that fetches a large one
before it is read. Both are private; `modal` is pinned exactly, and a test says so by name if they should move. The
exceptions stay what they are, for others in this process who use the SDK.

**Bound.** A result of 2 GiB must not take the follower down, and a slow one must not begin anew. The SDK reads a large
result whole, however large, and reports nothing meanwhile. It has no setting for either. So its one function that reads
results is replaced by one with a bound, which reports the bytes that come: whoever waits for a result bounds the time
without any, not the whole. What the store refuses or breaks off is tried again as often as by the SDK's own.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from modal import _functions
from modal._utils import blob_utils, function_utils
from modal._utils.async_utils import retry
from modal._utils.http_utils import ClientSessionRegistry
from modal.exception import ExecutionError, RemoteError

from workers.overflow.modal_sdk.port import RaisedByMethod, ResultTooLarge


class Origin(Enum):
    """Where an exception of the SDK came from."""

    #: The request: nothing is known about the call.
    REQUEST = auto()
    #: The call has ended, and its result could not be fetched.
    FETCHING = auto()
    #: The call has ended so: it is what its result says.
    RESULT = auto()


_MARK = "_overspill_origin"


def origin_of(error: BaseException) -> Origin:
    """Where an exception came from, as far as it was marked."""
    found = vars(error).get(_MARK)
    return found if isinstance(found, Origin) else Origin.REQUEST


def mark_origins() -> None:
    """From here on, what the SDK in this process raises for a result is marked. A second time changes nothing."""
    sdk: Any = _functions
    utils: Any = function_utils
    read, fetch = sdk._process_result, utils.blob_download
    if hasattr(read, _MARK):
        return

    async def marked_fetch(*args: Any, **named: Any) -> bytes:
        try:
            return bytes(await fetch(*args, **named))
        except BaseException as error:
            vars(error)[_MARK] = Origin.FETCHING
            raise

    async def marked_read(*args: Any, **named: Any) -> Any:
        try:
            return await read(*args, **named)
        except BaseException as error:
            if origin_of(error) is Origin.FETCHING:
                raise
            raised = _raisable(error)
            vars(raised)[_MARK] = Origin.RESULT
            raise raised from raised.__cause__

    setattr(marked_read, _MARK, True)
    sdk._process_result, utils.blob_download = marked_read, marked_fetch


def _raisable(error: BaseException) -> BaseException:
    """The same, unless raising it here would mean something: those end the SDK's event loop, or a task."""
    if isinstance(error, asyncio.CancelledError):
        return RemoteError("the method was cancelled")
    if isinstance(error, Exception):
        return error
    return RaisedByMethod(type(error).__name__)


_CHUNK_BYTES = 1024 * 1024
#: As the SDK tries it (`blob_utils._download_from_url`).
_TRIES, _FIRST_PAUSE_S = 5, 0.1

_came: ContextVar[Callable[[], None]] = ContextVar("came", default=lambda: None)


@contextmanager
def on_bytes(came: Callable[[], None]) -> Iterator[None]:
    """Within, `came` is called each time that bytes have come for this task, from the SDK's own thread."""
    token = _came.set(came)
    try:
        yield
    finally:
        _came.reset(token)


def bound_results(limit_bytes: int) -> None:
    """From here on, the SDK in this process fetches no result of more than `limit_bytes`; it raises ResultTooLarge."""
    sessions: Any = ClientSessionRegistry  # untyped

    @retry(n_attempts=_TRIES, base_delay=_FIRST_PAUSE_S, attempt_timeout=None)
    async def read(url: str) -> bytes | ResultTooLarge:
        async with sessions.get_session().get(url) as response:
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                await asyncio.sleep(1)
            if response.status != HTTPStatus.OK:
                raise ExecutionError(f"Get from url failed with status {response.status}: {await response.text()}")
            if response.content_length is not None and response.content_length > limit_bytes:
                return ResultTooLarge(response.content_length, limit_bytes)
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                _came.get()()
                body += chunk
                if len(body) > limit_bytes:
                    return ResultTooLarge(None, limit_bytes)
            return bytes(body)

    async def download(url: str) -> bytes:
        match await read(url):
            case ResultTooLarge() as too_large:
                # No repetition makes it smaller.
                raise too_large
            case body:
                return body

    sdk: Any = blob_utils
    sdk._download_from_url = download
