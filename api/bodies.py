"""A request's body: read within bounds of bytes and time, and parsed by its content type."""

import asyncio
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from api.creation import NOT_TAKEN, unsupported
from api.errors import TooLarge, TooSlow, UnsupportedMediaType
from api.forms import multipart_names, read_json, read_multipart, read_urlencoded

#: Longest time that a body may take to come, seconds.
BODY_TIMEOUT_S = 30.0
#: A body that is too long is read (and thrown away) up to this multiple of the limit before the answer: a client that
#: is still sending when the connection closes would see a broken pipe instead of the answer.
DRAIN_FACTOR = 16


async def read_fields(request: Request, *, max_bytes: int) -> dict[str, Any]:
    """The fields of a request's body.

    Raises:
        ApiError: too long, too slow, of another type, or not readable.
    """
    content_type = request.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in ("multipart/form-data", "application/x-www-form-urlencoded", "application/json"):
        raise UnsupportedMediaType(
            "Content-Type: expected multipart/form-data, application/x-www-form-urlencoded or application/json, "
            f"got {media_type[:80] or 'none'!r}.",
            code="unsupported_media_type",
            param="Content-Type",
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"Content-Encoding: expected none, got {encoding[:80]!r}. Send the body as it is.",
            code="unsupported_encoding",
            param="Content-Encoding",
        )
    body, whole = await _read(request, max_bytes)
    # In a thread: others need not wait while a body is taken apart.
    if not whole:
        raise await run_in_threadpool(_too_large, body, content_type, media_type, max_bytes)
    return await run_in_threadpool(_parsed, body, content_type, media_type)


def _parsed(body: bytes, content_type: str, media_type: str) -> dict[str, Any]:
    match media_type:
        case "multipart/form-data":
            return read_multipart(body, content_type)
        case "application/json":
            return read_json(body)
        case _:
            return read_urlencoded(body)


def _too_large(prefix: bytes, content_type: str, media_type: str, max_bytes: int) -> Exception:
    # A picture that makes the body too long would be refused at any size: say so, or its sender shrinks it in vain.
    if media_type == "multipart/form-data":
        for name in multipart_names(prefix, content_type):
            root = name.partition("[")[0]
            if root in NOT_TAKEN:
                return unsupported(root)
    return TooLarge(f"Expected a body of at most {max_bytes} bytes, got more.", code="body_too_large", param="body")


async def _read(request: Request, max_bytes: int) -> tuple[bytes, bool]:
    """The body, or its first `max_bytes` bytes, and whether that is all of it."""
    kept = bytearray()
    seen = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                seen += len(chunk)
                kept.extend(chunk[: max(0, max_bytes - len(kept))])
                if seen > max_bytes * DRAIN_FACTOR:
                    break
    except TimeoutError:
        if seen <= max_bytes:
            raise TooSlow(
                f"Expected the body within {BODY_TIMEOUT_S:g} s; it did not come.", code="body_timeout", param="body"
            ) from None
    return bytes(kept), seen <= max_bytes
