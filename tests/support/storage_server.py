"""The storage services alone, on a loopback server of their own in a thread: with a clock to set and small limits.

The conformance tests that need no containers run against this as well as against a whole `modal_local`; what they use
of it is the SDK's client and the environment for the CLI.
"""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import modal
from grpclib.server import Server

from modal_local.context import Context
from modal_local.http import HttpServer
from modal_local.rpc import Credentials, RpcRouter, StatusDetailsCodec
from modal_local.settings import Settings
from modal_local.store import Store
from tests.support.modal_command import run_modal

TOKEN = ("ak-test", "as-test")  # a made-up pair that only the server of the test knows
ServiceFactory = Callable[[Context], Sequence[object]]


class StorageServer:
    """A gRPC and an HTTP server with some services, in a thread of its own.

    Args:
        state_dir: where everything is kept; start a second server on the same one for a restart.
        make_services: builds the service objects from a context.
    """

    def __init__(self, state_dir: Path, make_services: ServiceFactory) -> None:
        self._state_dir = state_dir
        self._make_services = make_services
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="storage-server", daemon=True)
        self.services: list[Any] = []
        self.server_url = ""
        self.context: Context

    def start(self) -> None:
        """Returns when both ports answer."""
        self._thread.start()
        self.run(self._start())

    def stop(self) -> None:
        """Stops both, and closes the store."""
        if self._thread.is_alive():
            self.run(self._stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def run(self, coroutine: Any) -> Any:
        """Runs something on the server's own loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    async def _start(self) -> None:
        store = Store(self._state_dir / "state.sqlite")
        self.context = Context(store=store, settings=Settings(), state_dir=self._state_dir)
        self.services = list(self._make_services(self.context))
        self._http = HttpServer(self.services)
        self.context.http_base_url = await self._http.start()
        self._router = RpcRouter(self.context, self.services, Credentials(tokens=dict([TOKEN])))
        self._grpc = Server([self._router], status_details_codec=StatusDetailsCodec())
        await self._grpc.start("127.0.0.1", 0)
        port = self._grpc._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]  # grpclib tells it nowhere else
        self.server_url = f"http://127.0.0.1:{port}"

    async def _stop(self) -> None:
        self._grpc.close()
        await self._grpc.wait_closed()
        await self._http.stop()
        self.context.store.close()

    def calls(self, method: str) -> int:
        """How often an RPC has come in."""
        return self._router.calls.get(method, 0)

    def wait_for_calls(self, method: str, count: int) -> None:
        """Returns when an RPC has come in that often.

        Raises:
            TimeoutError: it did not within half a minute.
        """
        give_up = time.monotonic() + 30
        while self.calls(method) < count:
            if time.monotonic() > give_up:
                raise TimeoutError(f"Expected {count} calls of {method}, got {self.calls(method)}.")
            time.sleep(0.01)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point an SDK or CLI at this server."""
        return {
            "MODAL_SERVER_URL": self.server_url,
            "MODAL_TOKEN_ID": TOKEN[0],
            "MODAL_TOKEN_SECRET": TOKEN[1],
            "MODAL_CONFIG_PATH": "/nonexistent",
            "MODAL_DISABLE_API_PROXY": "1",
            "MODAL_ENVIRONMENT": "",
        }

    def cli(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs `modal ...` to its end."""
        return run_modal(*arguments, cwd=cwd or Path.cwd(), env={**os.environ, **self.environment})

    @contextmanager
    def client(self) -> Iterator[modal.Client]:
        """A client of the real SDK."""
        with mock.patch.dict(os.environ, self.environment):
            client = modal.Client.from_credentials(*TOKEN)
            try:
                yield client
            finally:
                client.close()


@contextmanager
def storage_server(state_dir: Path, make_services: ServiceFactory) -> Iterator[StorageServer]:
    """A running server, stopped at the end."""
    server = StorageServer(state_dir, make_services)
    server.start()
    try:
        yield server
    finally:
        server.stop()
