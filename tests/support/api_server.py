"""The API under a real uvicorn on a free loopback port, in a thread; and what it nudges and signs, recorded."""

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.connections import StrictProtocol
from api.ports import NudgeSender, Signer, Variant
from infra.limits import open_ledger
from infra.settings import Settings
from ledger import Ledger
from ledger.models import Artifact
from ledger.nudges import Nudge
from tests.support.redis_server import RedisServer
from tests.support.settings import settings_of

KEY, OTHER_KEY = "the-key-of-tests-default", "the-key-of-tests-acme"
VIDEO = Artifact(
    bucket="videos",
    key="render/a/1/video.mp4",
    thumbnail_key="render/a/1/thumbnail.webp",
    size_bytes=3,
    sha256="0" * 64,
)


class RecordingNudger:
    """Keeps what it was given; `sent.get(timeout=...)` waits for the next one."""

    def __init__(self) -> None:
        self.sent: queue.Queue[Nudge] = queue.Queue()
        self.closed = 0

    def send(self, nudge: Nudge) -> bool:
        self.sent.put(nudge)
        return True

    def close(self) -> None:
        self.closed += 1


@dataclass
class AddressSigner:
    """Signs by pointing at `base`; `broken` makes it crash, as a bug would."""

    base: str = "http://artifacts.invalid"
    broken: bool = False

    def presigned_url(self, artifact: Artifact, *, variant: Variant) -> str:
        if self.broken:
            raise RuntimeError("a bug in the signer")
        key = artifact.key if variant == "video" else artifact.thumbnail_key
        return f"{self.base}/{artifact.bucket}/{key}?signature=abc"


class _Server(uvicorn.Server):
    """Says by an event that it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The app on a free port for the time of the block; its address."""
    # Naming TCP matters: asyncio turns Nagle off only then, and with it each answer would take 40 ms longer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="on", http=StrictProtocol)
        server = _Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), name="api", daemon=True)
        thread.start()
        try:
            assert server.listening.wait(20), "uvicorn did not listen within 20 s"
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive(), "uvicorn did not stop within 20 s"


@dataclass
class RunningApi:
    """An API, and what stands behind it."""

    url: str
    settings: Settings
    ledger: Ledger
    nudger: RecordingNudger
    signer: AddressSigner
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)

    def keys(self) -> dict[str, str]:
        """Every key of the ledger with its type: what a refused request must leave as it was."""
        names = self.ledger.client.scan_iter(f"{self.ledger.prefix}:*")
        return {str(name): str(self.ledger.client.type(name)) for name in names}

    def post(self, **fields: Any) -> httpx.Response:
        """POST /v1/videos as JSON."""
        return self.http.post("/v1/videos", json=fields)

    def forget(self) -> None:
        """Remove the ledger's keys."""
        for name in self.ledger.client.scan_iter(f"{self.ledger.prefix}:*"):
            self.ledger.client.delete(name)


def api_settings(redis: RedisServer, **changed: object) -> Settings:
    """Settings with keys of their own in Redis, and two API keys."""
    return settings_of(
        {
            "ledger_url": redis.url(0),
            "broker_url": redis.url(1),
            "ledger_prefix": "{t" + uuid4().hex[:12] + "}",
            "api_keys": f"{KEY},acme={OTHER_KEY}",
            **changed,
        }
    )


@contextmanager
def running_api(
    redis: RedisServer, *, nudger: NudgeSender | None = None, signer: Signer | None = None, **changed: object
) -> Iterator[RunningApi]:
    """An API on this Redis for the time of the block; `changed` are settings."""
    settings = api_settings(redis, **changed)
    recorder, addresses = RecordingNudger(), AddressSigner()
    app = create_app(settings, nudger=nudger or recorder, signer=signer or addresses)
    with open_ledger(settings) as ledger, serving(app) as url:
        running = RunningApi(url, settings, ledger, recorder, addresses)
        try:
            yield running
        finally:
            running.http.close()
            if redis.process is not None:
                running.forget()
