"""Bounds on what the SDK fetches: a result of 2 GiB must not take the follower down, a slow one must not begin anew.

The SDK reads a large result whole, however large, and says nothing while it does. It has no setting for either, so its
one function that reads is put behind a bound, and tells of the bytes that come: who waits for a result bounds the time
without any, not the whole. What the store refuses or breaks off is tried again as often as by the SDK's own. It is
private; `modal` is pinned exactly, and a test says so by name if it should move.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from modal._utils import blob_utils
from modal._utils.async_utils import retry
from modal._utils.http_utils import ClientSessionRegistry
from modal.exception import ExecutionError

from workers.overflow.calls import ResultTooLarge

_CHUNK_BYTES = 1024 * 1024
#: As the SDK tries it (`blob_utils._download_from_url`).
_TRIES, _FIRST_PAUSE_S = 5, 0.1

_came: ContextVar[Callable[[], None]] = ContextVar("came", default=lambda: None)


@contextmanager
def on_bytes(came: Callable[[], None]) -> Iterator[None]:
    """Within, what is fetched for this task tells so each time that some bytes have come, from the SDK's own thread."""
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
                # No second try makes it smaller.
                raise too_large
            case body:
                return body

    sdk: Any = blob_utils
    sdk._download_from_url = download
