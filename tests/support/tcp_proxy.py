"""A TCP proxy on loopback that can cut, refuse, slow down and hold what goes through it.

It runs in a thread of its own; every switch may be thrown from any thread and works at once, on connections that are
open as well as on new ones. A subclass may look into what passes (`sees_request`, `passes_answer`).
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_CHUNK_BYTES = 65_536
_SWITCH_TIMEOUT_S = 10.0


class Connection:
    """One client's connection: its two sides."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client = client
        self.server = server

    def abort(self) -> None:
        """End both sides at once; whatever was under way is lost."""
        for side in (self.client, self.server):
            side.transport.abort()


class TcpProxy:
    """Forwards a port of its own to `target_port`. start, ready (when `start` returns), stop; may be stopped twice."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self._delay_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{target_port}", daemon=True)
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._handlers: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._stopped = False

    # The switches.

    def start(self) -> None:
        """Listen. Returns when the port is open."""
        self._thread.start()
        self._in_loop(self._listen())

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._stopped:
            return
        self._stopped = True
        if self._thread.is_alive():
            self._in_loop(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def cut(self) -> int:
        """Abort every open connection, once. Returns how many there were."""
        return self._in_loop(self._cut())

    def refuse(self) -> None:
        """Cut, and refuse new connections until `heal`."""
        self._in_loop(self._refuse())

    def delay(self, seconds: float) -> None:
        """Hold each chunk back by so much, in both directions, until `heal`."""
        self._delay_s = seconds

    def hold(self) -> None:
        """A black hole: connections stay open and nothing passes until `heal`; what was held then goes on."""
        self._in_loop(self._hold())

    def heal(self) -> None:
        """Everything passes again, at once."""
        self._delay_s = 0.0
        self._in_loop(self._heal())

    @property
    def open_connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    # What a subclass may look into.

    def sees_request(self, connection: Connection, data: bytes) -> None:
        """Called with each chunk on its way to the server."""

    def passes_answer(self, connection: Connection, data: bytes) -> bytes | None:
        """Called with each chunk on its way to the client: what is passed on; None ends the connection instead."""
        return data

    # In the loop.

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SWITCH_TIMEOUT_S)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
            self.port = int(self._listener.sockets[0].getsockname()[1])

    async def _unlisten(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    async def _cut(self) -> int:
        cut = list(self._connections)
        for connection in cut:
            connection.abort()
        return len(cut)

    async def _refuse(self) -> None:
        await self._unlisten()
        await self._cut()

    async def _hold(self) -> None:
        self._flows.clear()

    async def _heal(self) -> None:
        self._flows.set()
        await self._listen()

    async def _close(self) -> None:
        await self._unlisten()
        await self._cut()
        self._flows.set()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def _accepted(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        with suppress(OSError, asyncio.CancelledError):
            await self._flows.wait()
            server_reader, server = await asyncio.open_connection("127.0.0.1", self.target_port)
            await self._forward(Connection(client, server), client_reader, server_reader)
        client.transport.abort()

    async def _forward(
        self, connection: Connection, client_reader: asyncio.StreamReader, server_reader: asyncio.StreamReader
    ) -> None:
        async def to_server(data: bytes) -> bool:
            self.sees_request(connection, data)
            connection.server.write(data)
            await connection.server.drain()
            return True

        async def to_client(data: bytes) -> bool:
            passed = self.passes_answer(connection, data)
            if passed is None:
                return False
            connection.client.write(passed)
            await connection.client.drain()
            return True

        self._connections.add(connection)
        ways = [
            asyncio.ensure_future(self._pump(client_reader, to_server)),
            asyncio.ensure_future(self._pump(server_reader, to_client)),
        ]
        try:
            # Either side's end is the end of both: none of the protocols here go on half-open.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            connection.client.close()
            connection.server.transport.abort()
            with suppress(OSError):
                await connection.client.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, pass_on: Callable[[bytes], Awaitable[bool]]) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._flows.wait()
            if not await pass_on(data):
                return
