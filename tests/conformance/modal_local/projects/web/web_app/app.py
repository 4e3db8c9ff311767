"""Web functions of every kind."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

import modal

PORT = int(os.environ.get("WEB_PORT", "18765"))
image = modal.Image.debian_slim().env({"WEB_PORT": str(PORT)}).add_local_python_source("web_app")
app = modal.App("web", image=image, include_source=False)


@app.function(scaledown_window=2)
@modal.fastapi_endpoint()
def greet(name: str = "world") -> dict[str, str]:
    return {"hello": name, "task": os.environ["MODAL_TASK_ID"]}


@app.function(scaledown_window=2)
@modal.fastapi_endpoint(method="POST", requires_proxy_auth=True)
def add(numbers: dict[str, int]) -> int:
    return sum(numbers.values())


@app.function(scaledown_window=2)
@modal.fastapi_endpoint()
def fail() -> None:
    raise RuntimeError("no page today")


@app.function(scaledown_window=2)
@modal.fastapi_endpoint()
def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "at last"


async def _echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("text") == "bye":
                await send({"type": "websocket.close", "code": 4001, "reason": "as you wish"})
                return
            if message.get("text"):
                await send({"type": "websocket.send", "text": message["text"][::-1]})
            else:
                await send({"type": "websocket.send", "bytes": message["bytes"][::-1]})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = dict(scope["headers"])
    said = f"{scope['method']} {scope['path']} {scope['query_string'].decode()} {headers[b'x-mark'].decode()}"
    headers = [(b"x-said", said.encode()), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    for start in range(0, len(body), 400_000):
        await send({"type": "http.response.body", "body": body[start : start + 400_000], "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@app.function(scaledown_window=2)
@modal.concurrent(max_inputs=10)
@modal.asgi_app()
def echo() -> Any:
    return _echo


@app.function(scaledown_window=2)
@modal.concurrent(max_inputs=10)
@modal.asgi_app()
def ticker() -> Any:
    async def tick(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for number in range(3):
            await send({"type": "http.response.body", "body": f"{number}\n".encode(), "more_body": True})
            await asyncio.sleep(0.3)
        if scope["path"] == "/broken":
            os._exit(1)
        if scope["path"] == "/endless":
            await asyncio.sleep(60)
        await send({"type": "http.response.body"})

    return tick


@app.function(scaledown_window=2)
@modal.concurrent(max_inputs=10)
@modal.wsgi_app()
def classic() -> Any:
    def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"wsgi ", environ["PATH_INFO"].encode(), b" ", environ["wsgi.input"].read()]

    return serve


@app.function(scaledown_window=2)
@modal.concurrent(max_inputs=10)
@modal.web_server(PORT, startup_timeout=20)
def files() -> None:
    subprocess.Popen([sys.executable, "-m", "http.server", str(PORT), "--bind", "0.0.0.0"])  # noqa: S104 - as asked


@app.cls(scaledown_window=2)
class Site:
    title: str = modal.parameter(default="untitled")
    pages: int = modal.parameter(default=1)

    @modal.enter()
    def begin(self) -> None:
        self.opened = True

    @modal.fastapi_endpoint()
    def index(self) -> dict[str, object]:
        return {"title": self.title, "pages": self.pages, "opened": self.opened}

    @modal.method()
    def count(self) -> int:
        return self.pages
