"""Web functions: on a loopback URL each, by HTTP and WebSocket, from zero containers and back."""

import asyncio
import functools
import inspect
import io
import json
import socket
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import modal
import pytest

from modal_local.admin_client import AdminClient
from tests.support.modal_local import start_modal_local

from .conftest import Target, target_for
from .test_scaling import until

pytestmark = pytest.mark.modal_conformance


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server with the project `web` deployed; a request is sent away after 2 s instead of 150."""
    server = start_modal_local(tmp_path_factory.mktemp("state"), max_containers=20, starts_per_s=50, web_timeout_s=2)
    try:
        target = target_for(server)
        target.environ["WEB_PORT"] = str(free_port())
        target.cli("deploy", "-m", "web_app.app", project="web")
        yield target
    finally:
        server.stop()


def in_a_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test in an event loop of its own, with an HTTP client for its argument `http`."""
    parameters = inspect.signature(test).parameters

    @functools.wraps(test)
    def run(**given: Any) -> None:
        async def main() -> None:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
                await test(**given, **({"http": session} if "http" in parameters else {}))

        asyncio.run(main())

    seen = [parameter for name, parameter in parameters.items() if name != "http"]
    run.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]  # what pytest looks at
    return run


def function(target: Target, name: str) -> modal.Function:
    return modal.Function.from_name("web", name, client=target.client)


async def url_of(target: Target, name: str) -> str:
    url = await function(target, name).get_web_url.aio()
    assert url is not None
    assert url.startswith("http://127.0.0.1:")
    return url


def admin_of(target: Target) -> AdminClient:
    assert target.server is not None
    return AdminClient(target.server.admin_url)


@in_a_loop
async def test_an_endpoint_answers_from_zero_and_goes_back_to_zero(web: Target, http: aiohttp.ClientSession) -> None:
    # given nothing runs
    greet = function(web, "greet")
    assert (await greet.get_current_stats.aio()).num_total_runners == 0

    # when it is asked
    async with http.get(await url_of(web, "greet"), params={"name": "Ada"}) as answer:
        said = await answer.json()

    # then a container has answered, and goes
    assert (answer.status, said["hello"]) == (200, "Ada")
    assert said["task"].startswith("ta-")
    assert await asyncio.to_thread(until, lambda: greet.get_current_stats().num_total_runners == 0)


@in_a_loop
async def test_calling_one_as_a_function_is_the_sdks_own_error(web: Target) -> None:
    with pytest.raises(modal.exception.InvalidError, match="webhook function cannot be invoked"):
        await function(web, "greet").remote.aio()
    with pytest.raises(modal.exception.InvalidError, match="webhook function cannot be invoked"):
        await function(web, "greet").spawn.aio()


@in_a_loop
async def test_what_the_app_says_about_wrong_requests_goes_through(web: Target, http: aiohttp.ClientSession) -> None:
    async with http.post(await url_of(web, "greet")) as answer:
        assert answer.status == 405
    async with http.get(f"{await url_of(web, 'greet')}/nowhere") as answer:
        assert answer.status == 404
    async with http.get(await url_of(web, "slow")) as answer:
        assert answer.status == 422


@in_a_loop
async def test_an_exception_is_a_500(web: Target, http: aiohttp.ClientSession) -> None:
    async with http.get(await url_of(web, "fail")) as answer:
        assert answer.status == 500


@in_a_loop
async def test_proxy_auth_asks_for_the_token(web: Target, http: aiohttp.ClientSession) -> None:
    url = await url_of(web, "add")
    async with http.post(url, json={"a": 1}) as answer:
        assert (answer.status, await answer.text()) == (401, "modal-http: missing credentials for proxy authorization")
    given = {"Modal-Key": web.environ["MODAL_TOKEN_ID"], "Modal-Secret": web.environ["MODAL_TOKEN_SECRET"]}
    async with http.post(url, json={"a": 1, "b": 2}, headers=given) as answer:
        assert await answer.json() == 3


@in_a_loop
async def test_a_slow_answer_is_fetched_by_303(web: Target, http: aiohttp.ClientSession) -> None:
    # given an answer that takes longer than a request may
    url = await url_of(web, "slow")
    async with http.get(url, params={"seconds": "3"}, allow_redirects=False) as answer:
        assert answer.status == 303
        assert "__modal_function_call_id=fc-" in answer.headers["Location"]
        again = answer.headers["Location"]

    # when the client comes back, it gets it, once
    async with http.get(f"{url}{again}") as answer:
        assert await answer.json() == "at last"
    async with http.get(f"{url}{again}") as answer:
        assert (answer.status, await answer.text()) == (404, "modal-http: invalid function call id")

    # and a client that follows by itself does not notice
    async with http.get(url, params={"seconds": "5"}) as answer:
        assert (answer.status, await answer.json()) == (200, "at last")


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
@in_a_loop
async def test_bodies_and_headers_go_both_ways(web: Target, http: aiohttp.ClientSession, size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    url = f"{await url_of(web, 'echo')}/a%20path/%C3%A9"
    async with http.put(url, params={"q": "1 2"}, data=io.BytesIO(body), headers={"X-Mark": "m"}) as answer:
        assert await answer.read() == body
    assert answer.status == 201
    assert answer.headers["X-Said"].encode("latin-1").decode() == "PUT /a path/é q=1+2 m"
    assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]


@in_a_loop
async def test_an_answer_is_streamed(web: Target, http: aiohttp.ClientSession) -> None:
    async with http.get(await url_of(web, "ticker")) as answer:
        pieces = [piece async for piece in answer.content.iter_any()]
    assert pieces == [b"0\n", b"1\n", b"2\n"]


@in_a_loop
async def test_an_answer_that_breaks_off_is_not_taken_for_whole(web: Target, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{await url_of(web, 'ticker')}/broken") as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


@in_a_loop
async def test_a_client_that_goes_away_ends_its_input(web: Target, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{await url_of(web, 'ticker')}/endless") as answer:
        await answer.content.readline()
        assert (await function(web, "ticker").get_current_stats.aio()).num_running_inputs == 1
        answer.close()
    ticker = function(web, "ticker")
    assert await asyncio.to_thread(until, lambda: ticker.get_current_stats().num_running_inputs == 0)


@in_a_loop
async def test_websockets(web: Target, http: aiohttp.ClientSession) -> None:
    url = await url_of(web, "echo")
    async with http.ws_connect(f"{url}/socket", protocols=["mirror"], headers={"X-Mark": "m"}) as socket:
        assert socket.protocol == "mirror"
        await socket.send_str("abc")
        assert await socket.receive_str() == "cba"
        await socket.send_bytes(b"\x01\x02")
        assert await socket.receive_bytes() == b"\x02\x01"
        await socket.send_str("bye")
        closing = await socket.receive()
        assert (closing.type, closing.data, closing.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "as you wish")


@in_a_loop
async def test_wsgi(web: Target, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{await url_of(web, 'classic')}/page", data=b"and a body") as answer:
        assert await answer.text() == "wsgi /page and a body"


@in_a_loop
async def test_a_web_server_of_ones_own(web: Target, http: aiohttp.ClientSession) -> None:
    async with http.get(await url_of(web, "files")) as answer:
        assert answer.status == 200
        assert "Directory listing" in await answer.text()


@in_a_loop
async def test_a_class_takes_its_parameters_from_the_query(web: Target, http: aiohttp.ClientSession) -> None:
    site = modal.Cls.from_name("web", "Site", client=web.client)()
    url = await site.index.get_web_url.aio()
    assert url is not None
    async with http.get(url) as answer:
        assert await answer.json() == {"title": "untitled", "pages": 1, "opened": True}
    async with http.get(url, params={"title": "News", "pages": "3"}) as answer:
        assert await answer.json() == {"title": "News", "pages": 3, "opened": True}
    async with http.get(url, params={"pages": "many"}) as answer:
        assert answer.status == 400
        assert "pages" in await answer.text()
    assert await site.count.remote.aio() == 1


@in_a_loop
async def test_the_url_is_printed_and_stays_over_a_redeploy_and_a_stop(
    web: Target, http: aiohttp.ClientSession
) -> None:
    url = await url_of(web, "greet")
    # when the app is deployed again, and when it is stopped in between
    done = await asyncio.to_thread(web.cli, "deploy", "-m", "web_app.app", project="web")
    assert url in done.stdout.replace("\n", "")
    await asyncio.to_thread(web.cli, "app", "stop", "web", "--yes", project="web")
    async with http.get(url) as answer:
        assert (answer.status, await answer.text()) == (404, "modal-http: app for invoked web endpoint is stopped")
    await asyncio.to_thread(web.cli, "deploy", "-m", "web_app.app", project="web")

    # then it is where it was
    async with http.get(url) as answer:
        assert answer.status == 200
    assert await url_of(web, "greet") == url


@in_a_loop
async def test_a_custom_domain_is_refused_by_name(web: Target) -> None:
    app = modal.App("domains")

    @app.function(serialized=True)
    @modal.fastapi_endpoint(custom_domains=["example.com"])
    def page() -> None: ...

    with pytest.raises(modal.exception.InvalidError, match="custom domains"):
        await app.deploy.aio(client=web.client)


def test_the_url_survives_the_servers_death(tmp_path: Path) -> None:
    server = start_modal_local(tmp_path, max_containers=4)
    try:
        target = target_for(server)
        target.cli("deploy", "-m", "web_app.app", project="web")
        before = function(target, "greet").get_web_url()
    finally:
        server.kill()
    server = start_modal_local(tmp_path, max_containers=4)
    try:
        after = function(target_for(server), "greet").get_web_url()
        assert after == before
        assert after is not None
        with urllib.request.urlopen(after, timeout=30) as answer:  # noqa: S310 - the server's own URL
            assert json.load(answer)["hello"] == "world"
    finally:
        server.stop()
