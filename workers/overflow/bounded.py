"""A bound on what the SDK holds in memory: a result of 2 GiB must not take the follower down.

The SDK reads a large result whole, however large. It has no setting for that, so its one function that reads is put
behind a bound. It is private; `modal` is pinned exactly, and a test says so by name if it should move.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from modal._utils import blob_utils
from modal._utils.http_utils import ClientSessionRegistry
from modal.exception import ExecutionError

from workers.overflow.calls import ResultTooLarge

_CHUNK_BYTES = 1024 * 1024


def bound_results(limit_bytes: int) -> None:
    """From here on, the SDK in this process fetches no result of more than `limit_bytes`; it raises ResultTooLarge."""
    sessions: Any = ClientSessionRegistry  # untyped

    async def download(url: str) -> bytes:
        async with sessions.get_session().get(url) as response:
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                await asyncio.sleep(1)
            if response.status != HTTPStatus.OK:
                raise ExecutionError(f"Get from url failed with status {response.status}: {await response.text()}")
            if response.content_length is not None and response.content_length > limit_bytes:
                raise ResultTooLarge(response.content_length, limit_bytes)
            body = bytearray()
            async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                body += chunk
                if len(body) > limit_bytes:
                    raise ResultTooLarge(None, limit_bytes)
            return bytes(body)

    sdk: Any = blob_utils
    sdk._download_from_url = download
