"""What is fetched from Modal's store of results: again when it is broken off, never what is too large."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web
from modal._utils import blob_utils
from modal._utils.http_utils import ClientSessionRegistry

from workers.overflow.modal_sdk.client import _extending
from workers.overflow.modal_sdk.patches import bound_results, on_bytes
from workers.overflow.modal_sdk.port import ResultTooLarge, Returned

LIMIT_BYTES = 3 * 1024**2
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _fetched(monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> tuple[bytes | BaseException, int, int]:
    """Fetch a result from a store that answers so, one time after the other: what came, how often it was asked, and how
    often it was told that bytes came."""
    asked, told = 0, 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await answers[asked - 1](request)

    def came() -> None:
        nonlocal told
        told += 1

    async def fetch() -> bytes | BaseException:
        store = web.Application()
        store.router.add_get("/", answer)
        runner = web.AppRunner(store, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        download: Any = blob_utils._download_from_url
        try:
            async with ClientSession() as session:
                monkeypatch.setattr(ClientSessionRegistry, "get_session", staticmethod(lambda: session))
                with on_bytes(came):
                    return bytes(await download(f"http://127.0.0.1:{runner.addresses[0][1]}/"))
        except Exception as error:  # noqa: BLE001 - any is an answer here
            return error
        finally:
            await runner.cleanup()

    monkeypatch.setattr(blob_utils, "_download_from_url", blob_utils._download_from_url)  # put back afterwards
    bound_results(LIMIT_BYTES)
    return asyncio.run(fetch()), asked, told


async def _whole(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * LIMIT_BYTES)


async def _too_large(_: web.Request) -> web.StreamResponse:
    return web.Response(body=b"x" * (LIMIT_BYTES + 1))


async def _away(_: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


async def _broken_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(LIMIT_BYTES)})
    await response.prepare(request)
    await response.write(b"x" * 1024)
    assert request.transport is not None
    request.transport.close()
    return response


async def _too_large_unsaid(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"x" * (LIMIT_BYTES + 1))
    return response


def test_a_store_that_stumbles_costs_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a store that answers an error, then breaks off, then gives the result
    result, asked, told = _fetched(monkeypatch, _away, _broken_off, _whole)
    # Then the result is had, whole; and who waits for it was told on the way
    assert result == b"x" * LIMIT_BYTES
    assert asked == 3
    assert told >= 3


@pytest.mark.parametrize("answer", [_too_large, _too_large_unsaid])
def test_what_is_too_large_is_asked_for_once(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    result, asked, _ = _fetched(monkeypatch, answer)
    assert isinstance(result, ResultTooLarge)
    assert asked == 1


def test_a_bound_is_put_off_while_bytes_come_and_not_longer() -> None:
    async def wait(pauses: list[float]) -> object:
        overdue = asyncio.timeout(0.1)
        try:
            async with overdue:
                came = _extending(overdue, 0.1)
                for pause_s in pauses:
                    await asyncio.sleep(pause_s)
                    await asyncio.to_thread(came)  # the SDK's thread is another
                return Returned(None)
        except TimeoutError:
            return "no bytes for so long"

    assert asyncio.run(wait([0.05] * 4)) == Returned(None)
    assert asyncio.run(wait([0.05, 1])) == "no bytes for so long"
